"""A LangGraph graph whose step is sixteen cached tasks at once, run again when all of them are cached."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict, cast

from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Send

from bench import payloads
from bench.lab import Lab, Measured
from bench.loops import Outcome

from .base import LANGGRAPH_ALL, Case, Scenario, params

_TASKS = 16
_QUESTIONS = 8


class _State(TypedDict, total=False):
    question: int
    answers: Annotated[list[Any], operator.add]


class _Task(TypedDict):
    number: int


def _cases(full: bool) -> list[Case]:
    return (
        [Case(LANGGRAPH_ALL, params(callers=callers, batch=_TASKS), seconds=2.0) for callers in (1, 16)] if full else []
    )


def _key(task: _Task) -> str:
    return payloads.key(task["number"])


async def _run(lab: Lab) -> Measured:
    ran = 0

    async def work(task: _Task) -> dict[str, Any]:
        nonlocal ran
        ran += 1
        return {"answers": [payloads.answer(task["number"], lab.value_bytes)[0].message]}

    def fan_out(state: _State) -> list[Send]:
        question = state.get("question", 0)
        return [Send("work", {"number": question * _TASKS + each}) for each in range(_TASKS)]

    async with lab.subject() as subject:
        builder = cast("Any", StateGraph(_State))
        policy = CachePolicy(key_func=_key)
        builder.add_node("work", work, cache_policy=policy)
        builder.add_conditional_edges(START, fan_out, ["work"])
        builder.add_edge("work", END)
        graph = builder.compile(cache=cast("Any", subject).cache)

        async def invoke(number: int) -> Outcome:
            result = await graph.ainvoke({"question": number % _QUESTIONS, "answers": []})
            assert len(result["answers"]) == _TASKS
            return Outcome(hits=_TASKS)

        for question in range(_QUESTIONS):
            await invoke(question)
        ran = 0
        measured = await lab.measure(invoke)
        measured.lost = ran
        return measured


SCENARIO = Scenario("fan-out", "a LangGraph step of sixteen cached tasks", _cases, _run)
