"""Models whose settings say nothing about them are pointed out, once."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from tests.langchain.models import CountingChat, CountingText, SerializableChat
from tiered_cache import TieredCache
from tiered_cache._stats import logger
from tiered_cache.langchain import LangChainCache
from tiered_cache.langchain._nameless import _warn, warn_of

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)


class Silent(CountingChat):
    """Says nothing about itself, as custom models do that were written after the first page of a tutorial."""

    @property
    def _llm_type(self) -> str:
        return "silent"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}


class SilentText(CountingText):
    @property
    def _llm_type(self) -> str:
        return "it's silent"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}


class Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record)


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    _warn.cache_clear()
    notes = Notes()
    monkeypatch.setattr(logger, "handlers", [notes])
    return notes.lines


async def test_two_of_them_share_their_answers_and_one_line_says_so(
    answers: LangChainCache, lines: list[logging.LogRecord]
) -> None:
    one, other = Silent(cache=answers, settings="m-1"), Silent(cache=answers, settings="m-2")
    assert (await one.ainvoke("q")).text == other.invoke("q").text == "q #1"
    for n in range(5):
        await one.ainvoke(f"q{n}")
        one.bind_tools([{"name": f"f{n}"}]).invoke("q")
        one.invoke("q", stop=[str(n)])
    (line,) = lines
    assert (line.name, line.levelno) == ("tiered_cache", logging.WARNING)
    for word in ("'silent'", "_identifying_params", "namespace="):
        assert word in line.getMessage()


async def test_a_namespace_each_is_the_cure(cache: TieredCache) -> None:
    one, other = (Silent(cache=LangChainCache(cache, namespace=("langchain", each))) for each in ("a", "b"))
    await one.ainvoke("q")
    await other.ainvoke("q")
    assert (one.calls, other.calls) == (1, 1)


def test_models_of_texts_as_well(answers: LangChainCache, lines: list[logging.LogRecord]) -> None:
    SilentText(cache=answers).invoke("q")
    SilentText(cache=answers).batch(["q", "r"])
    (line,) = lines
    assert "it's silent" in line.getMessage()


def test_a_fake_model_says_nothing_about_its_answers(answers: LangChainCache, lines: list[logging.LogRecord]) -> None:
    GenericFakeChatModel(messages=iter([AIMessage("a")]), cache=answers).invoke("q")
    (line,) = lines
    assert "generic-fake-chat-model" in line.getMessage()


async def test_models_that_say_who_they_are_get_no_line(
    answers: LangChainCache, lines: list[logging.LogRecord]
) -> None:
    for model in (CountingChat, SerializableChat):
        llm = model(cache=answers)
        await llm.ainvoke("q")
        llm.bind_tools([{"name": "f", "description": "a function at 0x7f00, <somewhere>"}]).invoke("q", stop=["x"])
    CountingText(cache=answers).invoke("q")
    assert not lines


class Opaque:
    """Its repr is an address."""


def test_an_address_in_the_settings_is_pointed_out_whichever_it_is(
    answers: LangChainCache, lines: list[logging.LogRecord]
) -> None:
    held = [Opaque() for _ in range(3)]
    for model in (CountingChat, SerializableChat):
        llm = model(cache=answers)
        for each in held:
            llm.invoke("q", helper=each)
        llm.invoke("q", helper=held[0])
        assert llm.calls == 3
    (line,) = lines
    message = line.getMessage()
    assert "Opaque object>" in message
    assert "__repr__" in message
    assert "0x" not in message


SAYS_NOTHING = [
    "[('_type', 'm'), ('stop', None)]",
    "[('_type', 'm')]",
    "[('_type', \"it's\"), ('stop', ['a'])]",
    "[('stop', None)]",
    "[('_type', 'm'), ('stop', None), ('tool_choice', 'any'), ('tools', [{'a': ['b', 1]}])]",
    '{"id": ["a", "M"], "lc": 1, "name": "M", "type": "not_implemented"}---[(\'stop\', None)]',
    '{"id": ["a", "M"], "kwargs": {}, "lc": 1, "type": "constructor"}---[]',
]
SAYS_SOMETHING = [
    "[('_type', 'm'), ('model', 'x'), ('stop', None)]",
    "[('MODEL', 'x'), ('_type', 'm'), ('stop', None)]",
    "[('_type', 'm'), ('stop', None), ('temperature', 0.0)]",
    '{"id": ["a", "M"], "kwargs": {"model": "x"}, "lc": 1, "type": "constructor"}---[]',
    "some llm string",
    "",
    "{",
    "{}",
    "[",
    "[]",
    "{not json",
    '{"lc": 1, "kwargs": {}}',
    '{"lc": 1, "id": 5}',
    "{" * 100_000,
    '{"a":' * 100_000,
]


@pytest.mark.parametrize("llm_string", SAYS_NOTHING)
def test_settings_that_say_nothing(world: object, lines: list[logging.LogRecord], llm_string: str) -> None:
    for _ in range(3):
        warn_of(llm_string)
    assert len(lines) == 1


@pytest.mark.parametrize("llm_string", SAYS_SOMETHING, ids=range(len(SAYS_SOMETHING)))
def test_settings_that_say_something_or_are_none(
    world: object, lines: list[logging.LogRecord], llm_string: str
) -> None:
    warn_of(llm_string)
    assert not lines


def test_what_is_remembered_is_bounded(world: object, lines: list[logging.LogRecord]) -> None:
    for n in range(1000):
        warn_of(f"[('_type', 'm-{n}'), ('stop', None)]")
    assert len(lines) == 1000
    info = _warn.cache_info()
    assert info.maxsize is not None
    assert info.currsize == info.maxsize < 1000


async def test_settings_are_looked_at_once_and_not_at_every_call(
    answers: LangChainCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr("tiered_cache.langchain._cache.warn_of", looked.append)
    for _ in range(5):
        await answers.alookup("q", "m-1")
        answers.lookup("r", "m-2")
    assert looked == ["m-1", "m-2"]
