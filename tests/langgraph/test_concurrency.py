"""Many callers, many threads, many loops; and what LangGraph does with the values it hands over."""

from __future__ import annotations

import asyncio
import operator
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import anyio
import pytest
from blockbuster import blockbuster_ctx
from langgraph.cache.base import FullKey
from langgraph.func import task
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy

from tests.langgraph.graphs import TwoNodes
from tests.langgraph.running import Wrapping
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache

KEY: FullKey = (("n",), "k")


async def test_80_concurrent_writers_of_one_key_leave_one_value_in_both_tiers(
    world: World, cache: TieredCache, results: LangGraphCache[Any]
) -> None:
    async with anyio.create_task_group() as tasks:
        for n in range(80):
            tasks.start_soon(results.aset, {KEY: ({"writer": n}, None)})
    found = await results.aget([KEY])
    assert found[KEY]["writer"] in range(80)
    assert await results.aget([KEY]) == found
    fresh = TieredCache(world.other_front(), world.store, prefix="a front that knows nothing")
    assert await LangGraphCache[Any](fresh).aget([KEY]) == found
    assert cache.stats().adapter_errors == cache.stats().front_errors == 0
    await fresh.aclose()


def test_threads_and_loops_share_one_cache(world: World, cache: TieredCache, results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    two.graph.invoke({"question": "q"})

    def invoke(n: int) -> Any:
        if n % 2:
            return two.graph.invoke({"question": "q"})["answer"]
        return asyncio.run(two.graph.ainvoke({"question": "q"}))["answer"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(invoke, range(16))) == {"answer to q"}
    for n in (0, 0, 0, 1):
        assert invoke(n) == "answer to q"
    assert two.total == 2
    assert cache.stats().adapter_errors == cache.stats().front_errors == 0


async def test_nothing_blocks_the_loop(results: LangGraphCache[Any]) -> None:
    await results.aclear()  # drivers read files when they connect
    with blockbuster_ctx("tiered_cache"):
        await results.aset({KEY: (deque([("x", 1)]), 60), (("m",), "k"): ("gone", 0)})
        assert await results.aget([KEY]) == {KEY: deque([("x", 1)])}
        await results.aclear([("n",)])
        assert await results.aget([KEY]) == {}


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
async def test_a_value_is_serialized_before_the_first_await(results: LangGraphCache[Any]) -> None:
    writes: deque[Any] = deque([("x", [1])])
    call = results.aset({KEY: (writes, None)})
    call_started = False

    async def change_it_meanwhile() -> None:
        assert call_started
        writes[0][1].append("changed after it was handed over")
        writes.append(("y", 2))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change_it_meanwhile)  # runs as soon as the call awaits anything
        call_started = True
        await call
    assert writes == deque([("x", [1, "changed after it was handed over"]), ("y", 2)])
    assert await results.aget([KEY]) == {KEY: deque([("x", [1])])}


class Gated(LangGraphCache[Any]):
    """Holds a lookup that asks for a second task back until what a first one wrote is stored."""

    looking = stored = anyio.Event()

    def hold(self) -> None:
        self.looking, self.stored = anyio.Event(), anyio.Event()

    async def _find(self, keys: Iterable[Any]) -> Any:
        asked = list(keys)
        if any(key[0][-1].endswith("helper") for key in asked):
            self.looking.set()
            await self.stored.wait()
        return await super()._find(asked)

    async def _apply(self, changes: Any) -> None:
        await super()._apply(changes)
        self.stored.set()


class Reduced(TypedDict):
    xs: Annotated[list[str], operator.add]


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
@pytest.mark.parametrize("prefix", [(), ("named otherwise",)], ids=["own keys", "keys of a cache that renames them"])
async def test_a_task_that_runs_while_its_key_is_asked_again_writes_once(
    cache: TieredCache, prefix: tuple[str, ...]
) -> None:
    """LangGraph asks for all running tasks when one starts another, and adds what it finds to their own writes."""
    results = Gated(cache)
    results.hold()

    @task(cache_policy=CachePolicy())
    async def helper() -> str:
        return "b"

    async def a(state: Reduced) -> Reduced:
        await results.looking.wait()
        return {"xs": ["a"]}

    async def b(state: Reduced) -> Reduced:
        return {"xs": [await helper()]}

    builder: Any = StateGraph(Reduced)
    builder.add_node("a", a, cache_policy=CachePolicy())
    builder.add_node("b", b)
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    with anyio.fail_after(20):
        assert sorted((await builder.compile(cache=Wrapping(results, prefix)).ainvoke({"xs": []}))["xs"]) == ["a", "b"]


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
async def test_concurrent_readers_get_objects_of_their_own(results: LangGraphCache[Any]) -> None:
    await results.aset({KEY: (deque([("x", [1])]), None)})
    found: list[Any] = []

    async def read() -> None:
        found.append((await results.aget([KEY]))[KEY])

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(read)
    assert found == [deque([("x", [1])])] * 10
    assert len({id(each[0][1]) for each in found}) == 10


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
@pytest.mark.every_backend
async def test_embedded_results_work_on_every_event_loop(results: LangGraphCache[Any]) -> None:
    await results.aset({KEY: ("v", 60)})
    assert await results.aget([KEY]) == {KEY: "v"}
    assert results.get([KEY]) == {KEY: "v"}
    await results.aclear()
    assert await results.aget([KEY]) == {}
