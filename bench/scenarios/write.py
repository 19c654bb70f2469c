"""New answers, written through: an operation is over when the answer is durable, where the contender is."""

from __future__ import annotations

from bench.lab import Lab, Measured
from bench.loops import Outcome

from .base import (
    LANGCHAIN_ALL,
    LANGCHAIN_SOME,
    LANGCHAIN_SQL,
    LANGGRAPH_ALL,
    PLAIN_ALL,
    Case,
    Scenario,
    params,
    seconds,
)

_WITHOUT = "tiered-without-the-rule"


def _cases(full: bool) -> list[Case]:
    time = seconds(full)
    if not full:
        return [
            Case((*LANGCHAIN_SQL, _WITHOUT), params(callers=64), seconds=time),
            Case((LANGCHAIN_SQL[0], _WITHOUT), params(callers=1), seconds=time),
        ]
    found = [Case((*LANGCHAIN_ALL, _WITHOUT), params(callers=callers)) for callers in (1, 64, 256)]
    found += [Case(LANGCHAIN_SOME, params(callers=16, value_bytes=size)) for size in (200, 20_000, 200_000)]
    found += [Case(names, params(callers=64)) for names in (LANGGRAPH_ALL, PLAIN_ALL)]
    return found


async def _run(lab: Lab) -> Measured:
    written = 0
    async with lab.subject() as subject:

        async def write(_: int) -> Outcome:
            nonlocal written
            first, written = written, written + lab.batch
            await subject.put(range(first, first + lab.batch))
            return Outcome()

        measured = await lab.measure(write)
        # What was acknowledged has to be there.
        asked = range(0, written, max(1, written // 64))
        missing = sum([1 - await subject.get([key]) for key in asked])
        measured.lost = 0 if measured.trace.errors else missing
        return measured


SCENARIO = Scenario("write", "new answers, written through to the store", _cases, _run)
