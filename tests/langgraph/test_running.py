"""What LangGraph is told about tasks that run already, whoever stores a result for them meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

from tests.langgraph.running import ONE_KEY, STARTED, Gate, Invoke, Race, Reduced, Wrapping, ainvoke, invoke
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache

pytestmark = pytest.mark.parametrize("call", [ainvoke, invoke])


class Signalling(LangGraphCache[Any]):
    """Tells when something was stored."""

    def __init__(self, cache: TieredCache) -> None:
        super().__init__(cache)
        self.stored = Gate()

    def set(self, pairs: Mapping[Any, Any]) -> None:
        super().set(pairs)
        self.stored.open()

    async def aset(self, pairs: Mapping[Any, Any]) -> None:
        await super().aset(pairs)
        self.stored.open()


class SignallingNaive(InMemoryCache[Any]):
    def __init__(self) -> None:
        super().__init__()
        self.stored = Gate()

    def set(self, keys: Mapping[Any, Any]) -> None:
        super().set(keys)
        self.stored.open()


async def end_of(call: Invoke, race: Race, cache: BaseCache[Any], others: BaseCache[Any]) -> list[str]:
    """What a run ends with, if another run stores the result of its running node before it asks again."""
    ended: list[Any] = []

    async def run() -> None:
        ended.append(await call(race.graph(cache), {"first": True, "xs": []}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await race.running.passed()
        assert sorted((await call(race.graph(others), {"xs": []}))["xs"]) == ["slow", "starter"]
        race.stored.open()
    return sorted(ended[0]["xs"])


@pytest.mark.parametrize("starting", STARTED)
async def test_a_plain_cache_doubles_what_a_running_node_writes(call: Invoke, starting: str) -> None:
    """The reason for what follows. Once this fails, LangGraph has closed the race itself."""
    naive = InMemoryCache[Any]()
    assert await end_of(call, Race(starting), naive, naive) == ["helped", "slow", "slow"]


@pytest.mark.parametrize("starting", STARTED)
async def test_a_result_of_another_run_is_not_added_to_a_running_node(
    call: Invoke, starting: str, results: LangGraphCache[Any]
) -> None:
    assert await end_of(call, Race(starting), results, results) == ["helped", "slow"]


async def test_a_result_of_another_process_is_not_added_to_a_running_node(
    call: Invoke, world: World, results: LangGraphCache[Any]
) -> None:
    cache = TieredCache(world.other_front(), world.store)
    assert await end_of(call, Race(), results, LangGraphCache(cache)) == ["helped", "slow"]
    await cache.aclose()


async def test_other_runs_are_served_meanwhile(call: Invoke, results: LangGraphCache[Any]) -> None:
    between: list[Any] = []

    class Watched(Race):
        def _slow(self, state: Reduced) -> Reduced:
            between.append(state.get("first"))
            return super()._slow(state)

    watched = Watched()

    async def run() -> None:
        await call(watched.graph(results), {"first": True, "xs": []})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await watched.running.passed()
        for _ in range(3):
            assert sorted((await call(watched.graph(results), {"xs": []}))["xs"]) == ["slow", "starter"]
        watched.stored.open()
    assert between == [True, None]


class Twins(Race):
    """Two nodes of one run have one key; the first to run ends at once, and is stored while the other runs."""

    def __init__(self, cache: Signalling | SignallingNaive) -> None:
        super().__init__()
        self._stored = cache.stored
        self._turns = iter(range(2))

    def _slow(self, state: Reduced) -> Reduced:
        if next(self._turns):
            self._stored.wait()
            self.stored.open()
            self.asked_again.wait()
        return {"xs": ["slow"]}


async def test_a_plain_cache_doubles_what_the_second_of_two_equal_nodes_writes(call: Invoke) -> None:
    naive = SignallingNaive()
    found = await call(Twins(naive).graph(naive, slow=2), {"first": True, "xs": []})
    assert sorted(found["xs"]) == ["helped", "slow", "slow", "slow"]


async def test_two_equal_nodes_of_one_run_write_once_each(call: Invoke, cache: TieredCache) -> None:
    ours = Signalling(cache)
    found = await call(Twins(ours).graph(ours, slow=2), {"first": True, "xs": []})
    assert sorted(found["xs"]) == ["helped", "slow", "slow"]


async def test_a_later_superstep_finds_what_an_earlier_one_of_the_same_run_stored(
    call: Invoke, cache: TieredCache
) -> None:
    ours = Signalling(cache)
    runs: list[str] = []

    def work(state: Reduced) -> Reduced:
        runs.append("work")
        return {"xs": ["work"]}

    def settle(state: Reduced) -> Reduced:
        ours.stored.wait()
        return {}

    def again(state: Reduced) -> str:
        return "work" if len(state.get("xs", [])) < 4 else END

    builder: Any = StateGraph(Reduced)
    builder.add_node("work", work, cache_policy=ONE_KEY)
    builder.add_node("settle", settle)
    builder.add_edge(START, "work")
    builder.add_edge("work", "settle")
    builder.add_conditional_edges("settle", again)
    assert (await call(builder.compile(cache=ours), {"xs": []}))["xs"] == ["work"] * 4
    assert runs == ["work"]


async def runs_of_a_task_asked_for_twice(
    call: Invoke, cache: Signalling, between: Callable[[], None] = lambda: None
) -> int:
    """How often it runs, if `between` is called when its first result is stored."""
    runs: list[int] = []

    @task(cache_policy=CachePolicy())
    def double(n: int) -> int:
        runs.append(n)
        return 2 * n

    @entrypoint(cache=cache)
    def flow(n: int) -> int:
        first = double(n).result()
        cache.stored.wait()
        between()
        return first + double(n).result()

    assert await call(flow, 1) == 4
    return len(runs)


async def test_a_task_finds_what_an_equal_one_of_the_same_superstep_stored(call: Invoke, cache: TieredCache) -> None:
    assert await runs_of_a_task_asked_for_twice(call, Signalling(cache)) == 1


async def test_a_graph_inside_a_running_node_is_served_the_key_of_that_node(call: Invoke, cache: TieredCache) -> None:
    """It asks in the context, and on the thread, of a node that was told a miss for the same key."""
    ours = Signalling(cache)
    runs: list[str] = []
    graphs: list[Any] = []

    def slow(state: Reduced) -> Reduced:
        runs.append("outer" if state.get("first") else "inner")
        if not state.get("first"):
            return {"xs": ["slow"]}
        found = [graphs[0].invoke({"xs": []})["xs"]]
        ours.stored.wait()
        found.append(graphs[0].invoke({"xs": []})["xs"])
        return {"xs": [str(found)]}

    builder: Any = StateGraph(Reduced)
    builder.add_node("slow", slow, cache_policy=ONE_KEY)
    builder.add_edge(START, "slow")
    graphs.append(builder.compile(cache=ours))
    found = await call(graphs[0], {"first": True, "xs": []})
    assert found["xs"] == ["[['slow'], ['slow']]"]
    assert runs == ["outer", "inner"]


async def test_a_node_that_is_tried_again_has_its_tasks_found(call: Invoke, cache: TieredCache) -> None:
    ours = Signalling(cache)
    runs: list[str] = []

    @task(cache_policy=CachePolicy())
    def counted() -> str:
        runs.append("counted")
        return "counted"

    def node(state: Reduced) -> Reduced:
        found = counted().result()
        ours.stored.wait()
        if len(tries) < 2:
            tries.append(found)
            raise ValueError("try again")
        return {"xs": [found]}

    tries: list[str] = []
    builder: Any = StateGraph(Reduced)
    retry = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError)
    builder.add_node("node", node, retry_policy=retry)
    builder.add_edge(START, "node")
    assert (await call(builder.compile(cache=ours), {"xs": []}))["xs"] == ["counted"]
    assert (runs, tries) == (["counted"], ["counted"] * 2)


async def test_a_cleared_result_is_not_found_by_the_next_task(call: Invoke, cache: TieredCache) -> None:
    ours = Signalling(cache)
    assert await runs_of_a_task_asked_for_twice(call, ours, ours.clear) == 2


async def test_a_cache_round_ours_that_keeps_the_keys_writes_once(call: Invoke, results: LangGraphCache[Any]) -> None:
    wrapping = Wrapping(results, ())
    assert await end_of(call, Race(), wrapping, wrapping) == ["helped", "slow"]


async def test_a_cache_round_ours_that_renames_the_keys_finds_its_tasks(
    call: Invoke, results: LangGraphCache[Any]
) -> None:
    runs: list[int] = []

    @task(cache_policy=CachePolicy())
    def double(n: int) -> int:
        runs.append(n)
        return 2 * n

    @entrypoint(cache=Wrapping(results, ("mine",)))
    def flow(n: int) -> int:
        return double(n).result()

    assert [await call(flow, 1) for _ in range(2)] == [2, 2]
    assert runs == [1]
