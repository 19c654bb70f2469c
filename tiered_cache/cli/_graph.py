"""A LangGraph graph of two cached nodes, each of which asks a model."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langgraph.cache.base import BaseCache
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

_SECONDS_VALID: Final = 3600


class State(TypedDict, total=False):
    question: str
    plan: str
    answer: str


def research_graph(model: BaseChatModel, cache: BaseCache[Any]) -> Runnable[State, State]:
    """`{"question": ...}` to `{"plan": ..., "answer": ...}`."""

    async def plan(state: State) -> State:
        return {"plan": (await model.ainvoke(f"Plan in short how to answer: {_question(state)}")).text}

    async def write(state: State) -> State:
        return {"answer": (await model.ainvoke(f"Answer: {_question(state)}\nPlan: {state.get('plan', '')}")).text}

    # The key is made of what decides the result, in a form that is the same in every process.
    builder: Any = StateGraph(State)  # its methods are typed in part only
    builder.add_node("plan", plan, cache_policy=CachePolicy(key_func=_question, ttl=_SECONDS_VALID))
    builder.add_node("write", write, cache_policy=CachePolicy(key_func=_question_and_plan, ttl=_SECONDS_VALID))
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "write")
    builder.add_edge("write", END)
    return builder.compile(cache=cache)


def _question(state: State) -> str:
    return state.get("question", "")


def _question_and_plan(state: State) -> str:
    return f"{_question(state)}\0{state.get('plan', '')}"
