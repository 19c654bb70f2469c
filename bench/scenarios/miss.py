"""Keys that are nowhere: what a cache costs those whom it cannot help."""

from __future__ import annotations

from bench.lab import Lab, Measured
from bench.loops import Outcome

from .base import LANGCHAIN_ALL, LANGGRAPH_ALL, PLAIN_ALL, Case, Scenario, params


def _cases(full: bool) -> list[Case]:
    if not full:
        return []
    crowds = [Case(names, params(callers=64)) for names in (LANGCHAIN_ALL, LANGGRAPH_ALL, PLAIN_ALL)]
    return [Case(LANGCHAIN_ALL, params(callers=1)), *crowds]


async def _run(lab: Lab) -> Measured:
    async with lab.subject() as subject:
        await lab.fill(subject, range(64))
        batch = lab.batch

        async def ask(number: int) -> Outcome:
            first = 1_000_000 + number * batch
            found = await subject.get(range(first, first + batch))
            assert not found, "found what was never stored"
            return Outcome()

        return await lab.measure(ask)


SCENARIO = Scenario("miss", "keys that are nowhere", _cases, _run)
