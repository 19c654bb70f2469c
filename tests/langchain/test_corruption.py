"""Rows that are damaged, foreign or planted are misses: counted, never an exception, never an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.outputs import Generation

from tests.langchain.models import CountingChat
from tiered_cache import PlainCodec, TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore
from tiered_cache.langchain._questions import questions_of
from tiered_cache.langchain._serde import GenerationsCodec

TEXT = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "output", "Generation"], "kwargs": {"text": "x"}}
MODEL = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
    "kwargs": {"base_url": "http://evil.example"},
}


class Planting:
    """Writes any bytes as if they were answers."""

    id = GenerationsCodec.id

    def encode(self, value: Any) -> bytes:
        return value

    def decode(self, payload: bytes) -> Any:
        return payload


PLANTED: dict[str, bytes] = {
    "nothing": b"",
    "no text": b"\xff\xfe\xfd",
    "an unknown form": b"\x09" + json.dumps([TEXT]).encode(),
    "cut off": (b"\x01" + json.dumps([TEXT]).encode())[:-2],
    "an empty list": b"\x01[]",
    "not a list": b"\x01" + json.dumps(TEXT).encode(),
    "a plain text": b'\x01"the answer"',
    "plain texts": b'\x01["the answer"]',
    "a plain dict": b'\x01[{"text": "the answer"}]',
    "a model": b"\x01" + json.dumps([MODEL]).encode(),
    "a model in the information": b"\x01"
    + json.dumps([{**TEXT, "kwargs": {"text": "x", "generation_info": {"m": MODEL}}}]).encode(),
    "a message of a later release": b'\x02[["ChatGeneration",{"message":["LaterMessage",{"content":"x"}]}]]',
    "a generation of a later release": b'\x02[["LaterGeneration",{"text":"x"}]]',
}


@pytest.mark.parametrize("kind", PLANTED)
async def test_a_planted_row_is_a_miss_and_the_next_answer_replaces_it(
    cache: TieredCache, answers: LangChainCache, kind: str
) -> None:
    await cache.namespace("langchain", "m", codec=Planting()).set("q", PLANTED[kind])
    assert await answers.alookup("q", "m") is None
    assert answers.lookup("q", "m") is None
    stats = cache.stats()
    assert (stats.corrupt, stats.adapter_errors) == (2, 0)
    await answers.aupdate("q", "m", [Generation(text="real")])
    assert await answers.alookup("q", "m") == [Generation(text="real")]


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
@pytest.mark.parametrize("value", ["a text", [{"text": "x"}], None, b"\x01" + json.dumps([TEXT]).encode()])
async def test_a_value_of_another_kind_under_the_same_name_is_a_miss(
    cache: TieredCache, answers: LangChainCache, value: Any
) -> None:
    await cache.namespace("langchain", "m", codec=PlainCodec()).set("q", value)
    assert await answers.alookup("q", "m") is None
    assert cache.stats().corrupt == 1


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
async def test_a_model_is_asked_where_the_row_is_damaged(cache: TieredCache, answers: LangChainCache) -> None:
    llm = CountingChat(cache=answers)
    await llm.ainvoke("q")
    (question,) = questions_of(llm, "q", None)
    await cache.namespace("langchain", question.llm_string, codec=Planting()).set(question.prompt, b"\x01[")
    assert (await llm.ainvoke("q")).text == "q #2"
    assert (await llm.ainvoke("q")).text == "q #2"


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
async def test_a_value_of_another_kind_in_a_byte_store_is_a_miss(cache: TieredCache, store: TieredByteStore) -> None:
    await cache.namespace("bytestore").set("a", "text")
    await cache.namespace("bytestore").set("b", b"bytes, but of another codec")
    assert await store.amget(["a", "b"]) == [None, None]
    assert cache.stats().corrupt == 2
