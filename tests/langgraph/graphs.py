"""Real graphs with cached nodes and tasks, which count how often they ran."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langgraph.cache.base import BaseCache
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy


class State(TypedDict, total=False):
    question: str
    topic: str
    answer: Any
    log: Annotated[list[str], operator.add]


def by_question(state: Any) -> str:
    return state["question"]


class TwoNodes:
    """`classify` and `answer`, both cached by the question; `runs` counts them."""

    def __init__(
        self,
        cache: BaseCache[Any] | None,
        *,
        output: Callable[[str], Any] = lambda question: f"answer to {question}",
        ttl: Any = None,
        names: tuple[str, str] = ("classify", "answer"),
    ) -> None:
        self.runs: Counter[str] = Counter()
        self._output = output
        policy = CachePolicy(key_func=by_question, ttl=ttl)
        builder: Any = StateGraph(State)
        builder.add_node(names[0], self._classify, cache_policy=policy)
        builder.add_node(names[1], self._answer, cache_policy=policy)
        builder.add_edge(START, names[0])
        builder.add_edge(names[0], names[1])
        builder.add_edge(names[1], END)
        self.graph: Any = builder.compile(cache=cache)

    def _classify(self, state: State) -> State:
        self.runs["classify"] += 1
        return {"topic": f"topic of {state.get('question')}", "log": ["classified"]}

    def _answer(self, state: State) -> State:
        self.runs["answer"] += 1
        return {"answer": self._output(state.get("question", "")), "log": ["answered"]}

    @property
    def total(self) -> int:
        return self.runs.total()
