"""Hits after the front lost everything: the store answers, and the front is filled again."""

from __future__ import annotations

from bench.lab import Lab, Measured
from bench.loops import passes

from .base import LANGCHAIN_ALL, LANGCHAIN_SQL, LANGGRAPH_ALL, Case, Scenario, params, seconds


def _cases(full: bool) -> list[Case]:
    if not full:
        return [Case(LANGCHAIN_SQL, params(callers=64, keys=1024), seconds=seconds(full))]
    langchain = [name for name in LANGCHAIN_ALL if "Redis" not in name]
    langgraph = [name for name in LANGGRAPH_ALL if name.startswith("tiered") or "Sqlite" in name]
    found = [Case(langchain, params(callers=callers, keys=1024)) for callers in (1, 64, 256)]
    return [*found, *(Case(langgraph, params(callers=callers, keys=1024)) for callers in (1, 64))]


async def _run(lab: Lab) -> Measured:
    async with lab.subject() as subject:
        await lab.fill(subject)
        read = lab.reading(subject)

        async def measured(seconds: float) -> Measured:
            trace, heart = await lab.watch(
                lambda: passes(
                    read,
                    range(lab.keys // lab.batch),
                    callers=lab.callers,
                    seconds=seconds,
                    clock=lab.clock,
                    between=subject.empty_front,
                )
            )
            return Measured(trace, heart.held)

        await measured(lab.job.seconds * 0.1)
        return await measured(lab.job.seconds)


SCENARIO = Scenario("hit-store", "hits with an empty front, promoted from the store", _cases, _run)
