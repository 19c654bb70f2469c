"""What is built apart and used together: streams, single flight, wishes for freshness, functions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import pytest
from anyio.abc import TaskStatus
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field

from tests.langchain.streams import StreamingChat
from tests.worlds import World, embedded
from tiered_cache import NotCachedError, TieredCache, freshness
from tiered_cache.langchain import LangChainCache, cached_chat_model

CALLERS = 5


class GatedChat(StreamingChat):
    """Streams one chunk, and the rest once it may."""

    gate: Any = Field(default_factory=anyio.Event, exclude=True)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        first = True
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            yield chunk
            if first:
                await self.gate.wait()
            first = False


@pytest.fixture
def world(sqlite_url: str) -> World:
    """One of them: this is about models."""
    return embedded(sqlite_url)


async def read(model: Any, question: str = "q") -> str:
    return "".join([chunk.text async for chunk in model.astream(question)])


@pytest.fixture
async def model(cache: TieredCache) -> GatedChat:
    return cached_chat_model(GatedChat(), LangChainCache(cache, single_flight=600))


async def waiting(cache: TieredCache, model: GatedChat) -> None:
    """Returns when one streams and the others wait for him."""
    for _ in range(20_000):
        if model.calls == 1 and cache.stats().misses >= CALLERS:
            return
        await anyio.sleep(0.001)
    raise AssertionError("they do not wait")


async def test_equal_streams_at_once_cost_one_call(cache: TieredCache, model: GatedChat) -> None:
    said: list[str] = []

    async def ask() -> None:
        said.append(await read(model))

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(ask)
        await waiting(cache, model)
        model.gate.set()
    assert model.calls == 1
    assert said[0]
    assert said == [said[0]] * CALLERS


async def test_who_closes_a_stream_early_lets_one_of_the_others_ask(cache: TieredCache, model: GatedChat) -> None:
    said: list[str] = []
    enough = anyio.Event()

    async def ask() -> None:
        said.append(await read(model))

    async def ask_and_leave(*, task_status: TaskStatus[None]) -> None:
        stream = model.astream("q")
        await anext(stream)
        task_status.started()
        await enough.wait()
        await cast("Any", stream).aclose()

    async with anyio.create_task_group() as tasks:
        await tasks.start(ask_and_leave)
        for _ in range(CALLERS - 1):
            tasks.start_soon(ask)
        await waiting(cache, model)
        model.gate.set()
        enough.set()
    assert model.calls == 2
    assert said == [said[0]] * (CALLERS - 1)


async def test_streams_heed_freshness(cache: TieredCache, model: GatedChat) -> None:
    model.gate.set()
    with freshness(only_if_cached=True), pytest.raises(NotCachedError):
        await read(model)
    assert model.calls == 0
    first = await read(model)
    with freshness(only_if_cached=True):
        assert await read(model) == first
    with freshness(refresh=True):
        anew = await read(model)
    assert (model.calls, await read(model)) == (2, anew)
    assert anew != first


async def test_functions_heed_freshness(cache: TieredCache) -> None:
    calls: list[int] = []

    @cache.cached(namespace="f")
    async def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    assert [await double(1), await double(1)] == [2, 2]
    with freshness(refresh=True):
        assert await double(1) == 2
    with freshness(only_if_cached=True):
        assert await double(1) == 2
        with pytest.raises(NotCachedError):
            await double(2)
    assert calls == [1, 1]
