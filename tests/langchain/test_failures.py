"""A cache never breaks its caller: the model's answer arrives whatever fails, and what failed is counted."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel

from tests.langchain.answers import ai
from tests.langchain.models import CountingChat, CountingText
from tests.servers import PostgresServer, RedisServer, free_port
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore


class Parsed(BaseModel):
    apples: int


def parsed(messages: list[BaseMessage], nth: int) -> list[ChatGeneration]:
    """As models with structured output answer: an object that no cache can rebuild without running foreign code."""
    return [ChatGeneration(message=AIMessage(content="{}", additional_kwargs={"parsed": Parsed(apples=nth)}))]


@pytest.fixture
def broken() -> Generator[TieredCache]:
    """Nobody listens at either address."""
    cache = TieredCache(
        f"redis://127.0.0.1:{free_port()}/0", f"postgresql+asyncpg://nobody:hunter2@127.0.0.1:{free_port()}/none"
    )
    yield cache
    cache.close()


SINGLE_FLIGHT = pytest.mark.parametrize("single_flight", [None, 20.0], ids=["alone", "single flight"])


class TestWithoutAnyTier:
    @SINGLE_FLIGHT
    async def test_every_way_of_asking_gets_the_models_answer(
        self, broken: TieredCache, single_flight: float | None
    ) -> None:
        answers = LangChainCache(broken, single_flight=single_flight)
        llm, text = CountingChat(cache=answers), CountingText(cache=answers)
        assert (await llm.ainvoke("q")).text == "q #1"
        assert llm.invoke("q").text == "q #2"
        assert len(llm.batch(["a", "b", "c"])) == len(await llm.abatch(["a", "b", "c"])) == 3
        assert await text.ainvoke("q") == "q #1"
        assert text.invoke("q") == "q #2"
        assert (llm.calls, text.calls) == (8, 2)
        assert broken.stats().adapter_errors == 20

    async def test_no_method_raises(self, broken: TieredCache) -> None:
        answers = LangChainCache(broken)
        for method in (answers.aclear, answers.clear):
            for wanted in ({}, {"llm_string": "m"}):
                outcome: Any = method(**wanted)
                assert outcome is None or await outcome is None
        await answers.adelete("q", "m")
        answers.delete("q", "m")
        answers.delete_through_llm("q", CountingChat())
        await answers.aupdate("q", "m", ai("x", additional_kwargs={"parsed": Parsed(apples=1)}))
        assert broken.stats().adapter_errors == 8

    async def test_it_is_logged_once_and_without_the_password(
        self, broken: TieredCache, caplog: pytest.LogCaptureFixture
    ) -> None:
        answers = LangChainCache(broken)
        with caplog.at_level(logging.DEBUG, "tiered_cache"):
            for _ in range(3):
                assert await answers.alookup("a secret question", "m") is None
                await answers.aupdate("a secret question", "m", [Generation(text="a secret answer")])
        lines = [record.getMessage() for record in caplog.records]
        assert sum("LangChainCache" in line for line in lines) == 1
        assert not any("hunter2" in line or "secret" in line for line in lines)

    async def test_a_byte_store_finds_nothing_and_keeps_nothing(self, broken: TieredCache) -> None:
        store = TieredByteStore(broken)
        store.mset([("a", b"1")])
        await store.amset([("a", b"1")])
        assert store.mget(["a", "b"]) == await store.amget(["a", "b"]) == [None, None]
        store.mdelete(["a"])
        await store.amdelete(["a"])
        assert list(store.yield_keys()) == [key async for key in store.ayield_keys()] == []
        assert broken.stats().adapter_errors == 8


@SINGLE_FLIGHT
async def test_a_store_without_its_tables_costs_no_answer(sqlite_url: str, single_flight: float | None) -> None:
    cache = TieredCache("memory://", sqlite_url, setup="never")
    llm = CountingChat(cache=LangChainCache(cache, single_flight=single_flight))
    assert [(await llm.ainvoke("q")).text, llm.invoke("q").text] == ["q #1", "q #2"]
    assert cache.stats().adapter_errors == 4
    await cache.aclose()


async def test_the_run_goes_on_when_the_servers_die_and_hits_come_back_with_them(
    spare_redis: RedisServer, spare_postgres: PostgresServer, spare_postgres_url: str
) -> None:
    cache = TieredCache(spare_redis.url, spare_postgres_url, store_timeout=2)
    llm = CountingChat(cache=LangChainCache(cache))
    await llm.ainvoke("q")
    spare_redis.kill()
    assert (await llm.ainvoke("q")).text == "q #1", "the store answers for the front"
    assert cache.stats().adapter_errors == 0
    spare_postgres.kill()
    assert (await llm.ainvoke("q")).text == "q #2"
    assert llm.invoke("q").text == "q #3"
    assert cache.stats().adapter_errors == 4
    spare_redis.start()
    spare_postgres.start()
    assert (await llm.ainvoke("q")).text == "q #1"
    assert llm.invoke("q").text == "q #1"
    await cache.aclose()


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestAnswersThatCannotBeStored:
    async def test_the_paid_answer_is_returned_as_it_is(self, cache: TieredCache, answers: LangChainCache) -> None:
        llm = CountingChat(cache=answers, answer=parsed)
        assert (await llm.ainvoke("q")).additional_kwargs["parsed"] == Parsed(apples=1)
        assert llm.invoke("q").additional_kwargs["parsed"] == Parsed(apples=2)
        stats = cache.stats()
        assert (stats.unsupported, stats.sets, stats.adapter_errors) == (2, 0, 0)

    async def test_they_are_not_logged_above_debug_level(
        self, answers: LangChainCache, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "tiered_cache"):
            await answers.aupdate("q", "m", ai("x", additional_kwargs={"parsed": Parsed(apples=1)}))
        assert not caplog.records

    async def test_the_answer_they_replace_is_not_served_in_their_place(self, answers: LangChainCache) -> None:
        await answers.aupdate("q", "m", ai("old"))
        await answers.aupdate("another", "m", ai("stays"))
        await answers.aupdate("q", "m", ai("new", additional_kwargs={"parsed": Parsed(apples=1)}))
        assert await answers.alookup("q", "m") is None
        assert await answers.alookup("another", "m") is not None

    async def test_they_do_not_look_like_an_outage(self, cache: TieredCache, answers: LangChainCache) -> None:
        llm = CountingChat(cache=answers, answer=parsed)
        await llm.abatch(["a", "b"])
        llm.answer = CountingChat().answer
        assert (await llm.ainvoke("a")).text == (await llm.ainvoke("a")).text
        assert cache.stats().hits == 1
