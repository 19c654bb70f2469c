"""One round: every question to the chat model and to the graph, many at a time, and what that took."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple

import anyio

from tiered_cache._cache import TieredCache
from tiered_cache._namespace import Namespace
from tiered_cache.langchain import LangChainCache
from tiered_cache.langgraph import LangGraphCache

from ._graph import research_graph
from ._model import StandInModel

REQUESTS_PER_QUESTION: Final = 2
CALLS_PER_QUESTION: Final = 3
_AT_A_TIME: Final = 20


class Figures(NamedTuple):
    """What a round did. `latencies` are those of its requests, `took` that of the whole, both in seconds."""

    model_calls: int
    hits_front: int
    hits_store: int
    latencies: list[float]
    took: float


class Application:
    """What is measured: a service that answers questions with a chat model and a graph, both behind one cache."""

    def __init__(self, cache: TieredCache, data: Namespace, speed: float) -> None:
        self._cache = cache
        self.answers = LangChainCache(data)
        self._chat = StandInModel(speed=speed, cache=self.answers)
        self._writer = StandInModel(speed=speed)
        self._graph = research_graph(self._writer, LangGraphCache(data))

    async def round(self, questions: Sequence[str], done: Callable[[], None]) -> Figures:
        """Calls `done` after each request."""
        before, calls_before = self._cache.stats(), self._calls
        latencies: list[float] = []
        limiter = anyio.CapacityLimiter(_AT_A_TIME)

        async def measure(request: Callable[[], Awaitable[Any]]) -> None:
            async with limiter:
                started = perf_counter()
                await request()
                latencies.append(perf_counter() - started)
            done()

        started = perf_counter()
        async with anyio.create_task_group() as tasks:
            for question in questions:
                tasks.start_soon(measure, lambda q=question: self._chat.ainvoke(q))
                tasks.start_soon(measure, lambda q=question: self._graph.ainvoke({"question": q}))
        after = self._cache.stats()
        return Figures(
            model_calls=self._calls - calls_before,
            hits_front=after.hits_front - before.hits_front,
            hits_store=after.hits_store - before.hits_store,
            latencies=latencies,
            took=perf_counter() - started,
        )

    @property
    def _calls(self) -> int:
        return self._chat.calls + self._writer.calls
