"""Structured output as OpenAI's models give it: an object of the user's class beside the text."""

from __future__ import annotations

from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, Field, field_serializer

from tests.langchain.models import CountingChat
from tests.worlds import World, embedded
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache, _parsed


class Weight(BaseModel):
    fruit: str
    grams: float = Field(alias="g")
    parts: list[Weight] = []


class Forgetful(BaseModel):
    """Not made again of what it says of itself."""

    grams: float

    @field_serializer("grams")
    def nothing(self, value: float) -> float:
        return 0


APPLE = Weight(fruit="apple", g=150.5, parts=[Weight(fruit="core", g=1)])


@pytest.fixture
def world(sqlite_url: str) -> World:
    """One of them: this is about values."""
    return embedded(sqlite_url)


def model(parsed: Any, answers: LangChainCache) -> CountingChat:
    def answer(messages: list[BaseMessage], nth: int) -> list[ChatGeneration]:
        return [ChatGeneration(message=AIMessage(content="{...}", additional_kwargs={"parsed": parsed, "n": nth}))]

    return CountingChat(answer=answer, cache=answers)


def structured(chat: CountingChat) -> Any:
    """As langchain-openai reads it."""

    def read(message: AIMessage) -> Any:
        parsed = message.additional_kwargs["parsed"]
        return Weight(**cast("dict[str, Any]", parsed)) if isinstance(parsed, dict) else parsed

    return chat | RunnableLambda(read)


async def test_an_object_is_stored_as_the_dict_that_makes_it_again(cache: TieredCache) -> None:
    chat = model(APPLE, LangChainCache(cache, parsed_as_dict=True))
    first = await chat.ainvoke("q")
    assert first.additional_kwargs["parsed"] is APPLE  # the caller's own is left as it is
    assert [await structured(chat).ainvoke("q") for _ in range(2)] == [APPLE, APPLE]
    hit = await chat.ainvoke("q")
    assert hit.additional_kwargs == {"parsed": APPLE.model_dump(by_alias=True), "n": first.additional_kwargs["n"]}
    assert chat.calls == 1
    assert cache.stats().unsupported == 0


async def test_without_the_option_it_is_not_stored_and_that_is_said_once(
    cache: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    _parsed._warn.cache_clear()
    chat = model(APPLE, LangChainCache(cache))
    assert [await structured(chat).ainvoke("q") for _ in range(2)] == [APPLE, APPLE]
    assert chat.calls == 2
    assert cache.stats().unsupported == 2
    said = [record.message for record in caplog.records if "parsed_as_dict" in record.message]
    assert len(said) == 1
    assert "Weight" in said[0]
    assert "apple" not in caplog.text


async def test_what_would_not_be_made_again_equal_is_not_stored(cache: TieredCache) -> None:
    chat = model(Forgetful(grams=2), LangChainCache(cache, parsed_as_dict=True))
    assert [(await chat.ainvoke("q")).additional_kwargs["parsed"] for _ in range(2)] == [Forgetful(grams=2)] * 2
    assert chat.calls == 2


@pytest.mark.parametrize("parsed", [None, {"a": 1}, "text"])
async def test_anything_else_is_stored_as_ever(cache: TieredCache, parsed: Any) -> None:
    chat = model(parsed, LangChainCache(cache, parsed_as_dict=True))
    assert [(await chat.ainvoke("q")).additional_kwargs["parsed"] for _ in range(2)] == [parsed, parsed]
    assert chat.calls == 1
