"""How many keys reach the tiers when one superstep has many tasks: each about once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from langgraph.cache.base import FullKey
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, Send

from tests.langgraph.graphs import State, by_question
from tests.langgraph.running import Invoke, ainvoke, invoke
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache

TASKS = 50
AT_MOST = 1.1


class Workflow:
    """50 tasks of one entrypoint; `runs` counts them."""

    cached_at_first = cached_again = TASKS

    def __init__(self, cache: Any, *, asynchronous: bool) -> None:
        self.runs = 0

        @task(cache_policy=CachePolicy())
        def double(n: int) -> int:
            self.runs += 1
            return 2 * n

        @task(cache_policy=CachePolicy())
        async def adouble(n: int) -> int:
            self.runs += 1
            return 2 * n

        @entrypoint(cache=cache)
        def workflow(_: Any) -> list[int]:
            return [each.result() for each in [double(n) for n in range(TASKS)]]

        @entrypoint(cache=cache)
        async def aworkflow(_: Any) -> list[int]:
            return await asyncio.gather(*(adouble(n) for n in range(TASKS)))

        self._flow: Any = aworkflow if asynchronous else workflow

    async def run(self, call: Invoke) -> None:
        assert await call(self._flow, "go") == [2 * n for n in range(TASKS)]


class Pieces:
    """50 pieces in one superstep, of which each starts a task."""

    cached_at_first, cached_again = 2 * TASKS, TASKS

    def __init__(self, cache: Any) -> None:
        self.runs = 0

        @task(cache_policy=CachePolicy())
        async def double(n: str) -> str:
            self.runs += 1
            return str(2 * int(n))

        async def piece(state: State) -> State:
            return {"log": [await double(state.get("question", ""))]}

        builder: Any = StateGraph(State)
        builder.add_node("piece", piece, cache_policy=CachePolicy(key_func=by_question))
        builder.add_conditional_edges(START, self._pieces, ["piece"])
        self._graph: Any = builder.compile(cache=cache)

    def _pieces(self, state: State) -> list[Send]:
        return [Send("piece", {"question": str(n)}) for n in range(TASKS)]

    async def run(self, call: Invoke) -> None:
        assert (await call(self._graph, {"question": "go"}))["log"] == [str(2 * n) for n in range(TASKS)]


FANS = [
    pytest.param(partial(Workflow, asynchronous=False), ainvoke, id="tasks, ainvoke"),
    pytest.param(partial(Workflow, asynchronous=False), invoke, id="tasks, invoke"),
    pytest.param(partial(Workflow, asynchronous=True), ainvoke, id="async tasks, ainvoke"),
    pytest.param(Pieces, ainvoke, id="pieces with a task each, ainvoke"),
]


class Counting(InMemoryCache[Any]):
    asked = 0

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        self.asked += len(keys)
        return super().get(keys)


@pytest.mark.parametrize(("make", "call"), FANS)
async def test_a_plain_cache_is_asked_for_most_tasks_many_times(make: Callable[[Any], Any], call: Invoke) -> None:
    """The reason for what follows."""
    naive = Counting()
    fan = make(naive)
    await fan.run(call)
    assert naive.asked > AT_MOST * fan.cached_at_first


@pytest.mark.parametrize(("make", "call"), FANS)
async def test_each_key_is_read_about_once(
    make: Callable[[Any], Any], call: Invoke, cache: TieredCache, results: LangGraphCache[Any]
) -> None:
    fan = make(results)
    await fan.run(call)
    first = cache.stats()
    assert fan.cached_at_first <= first.misses <= AT_MOST * fan.cached_at_first
    assert (first.hits, fan.runs) == (0, TASKS)
    await fan.run(call)
    again = cache.stats()
    assert fan.cached_again <= again.hits <= AT_MOST * fan.cached_again
    assert (again.misses, fan.runs) == (first.misses, TASKS)
