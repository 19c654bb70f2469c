"""Graphs in which a cached node runs while another starts something: LangGraph then asks its cache for both.

Gates make the interleaving. The nodes are plain functions, which `ainvoke` runs in threads, so one graph serves both.
"""

from __future__ import annotations

import inspect
import operator
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

import anyio
from langgraph.cache.base import BaseCache
from langgraph.func import task
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, Send

from tiered_cache.langgraph import LangGraphCache

SECONDS = 20.0

Invoke = Callable[[Any, Any], Awaitable[Any]]


async def ainvoke(graph: Any, value: Any) -> Any:
    return await graph.ainvoke(value)


async def invoke(graph: Any, value: Any) -> Any:
    return await anyio.to_thread.run_sync(graph.invoke, value)


#: What a node can start in the middle of a superstep. Error handlers came after the lowest LangGraph that is supported.
_add_node: Any = vars(StateGraph)["add_node"]
STARTED = ("task", "error handler")[: 1 + ("error_handler" in inspect.signature(_add_node).parameters)]


class Gate:
    """Opened once; waited for on a thread or on a loop, and not for ever."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def wait(self) -> None:
        assert self._opened.wait(SECONDS), "a gate stayed closed"

    async def passed(self) -> None:
        await anyio.to_thread.run_sync(self.wait)


class Reduced(TypedDict, total=False):
    first: bool
    xs: Annotated[list[str], operator.add]


def one_key(*_: Any) -> str:
    return "one key"


ONE_KEY = CachePolicy(key_func=one_key)


@task
def helper() -> str:
    return "helped"


class Race:
    """`slow` runs until LangGraph has asked again, which `starter` makes it do once `stored` is open.

    Runs but that with `first` neither wait nor start anything.
    """

    def __init__(self, starting: str = "task") -> None:
        self.running, self.stored, self.asked_again = Gate(), Gate(), Gate()
        self._starting = starting

    def graph(self, cache: BaseCache[Any], slow: int = 1) -> Any:
        """With so many nodes `slow`, all of one key."""
        builder: Any = StateGraph(Reduced)
        builder.add_node("slow", self._slow, cache_policy=ONE_KEY)
        builder.add_node("starter", self._starter, **self._handled())

        def begin(state: Reduced) -> list[Send]:
            return [Send("starter", state), *[Send("slow", state)] * slow]

        builder.add_conditional_edges(START, begin, ["slow", "starter"])
        return builder.compile(cache=cache)

    def _slow(self, state: Reduced) -> Reduced:
        if state.get("first"):
            self.running.open()
            self.asked_again.wait()
        return {"xs": ["slow"]}

    def _starter(self, state: Reduced) -> Reduced:
        if not state.get("first"):
            return {"xs": ["starter"]}
        self.stored.wait()
        if self._starting == "error handler":
            raise ValueError("to be handled")
        found = helper().result()
        self.asked_again.open()
        return {"xs": [found]}

    def _handle(self, state: Reduced) -> Reduced:
        self.asked_again.open()
        return {"xs": ["helped"]}

    def _handled(self) -> dict[str, Any]:
        return {"error_handler": self._handle} if self._starting == "error handler" else {}


class Wrapping(BaseCache[Any]):
    """Somebody's own cache round ours, with names of its own for the keys."""

    def __init__(self, inner: LangGraphCache[Any], prefix: tuple[str, ...]) -> None:
        super().__init__()
        self._inner = inner
        self._prefix = prefix

    def get(self, keys: Any) -> Any:
        return self._stripped(self._inner.get([self._named(key) for key in keys]))

    async def aget(self, keys: Any) -> Any:
        return self._stripped(await self._inner.aget([self._named(key) for key in keys]))

    def set(self, pairs: Any) -> None:
        self._inner.set({self._named(key): value for key, value in pairs.items()})

    async def aset(self, pairs: Any) -> None:
        await self._inner.aset({self._named(key): value for key, value in pairs.items()})

    def clear(self, namespaces: Any = None) -> None:
        self._inner.clear(namespaces)

    async def aclear(self, namespaces: Any = None) -> None:
        await self._inner.aclear(namespaces)

    def _named(self, key: Any) -> Any:
        return (self._prefix + key[0], key[1])

    def _stripped(self, found: Any) -> Any:
        return {(ns[len(self._prefix) :], key): value for (ns, key), value in found.items()}
