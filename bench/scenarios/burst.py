"""A crowd that comes all at once: nothing may be lost, since every hit that is lost is a paid call of a model."""

from __future__ import annotations

from bench.lab import Lab, Measured
from bench.loops import burst

from .base import LANGCHAIN, LANGCHAIN_ALL, PLAIN_ALL, Case, Scenario, params


def _cases(full: bool) -> list[Case]:
    who = (*LANGCHAIN_ALL, *PLAIN_ALL) if full else LANGCHAIN
    return [
        Case(who if full else LANGCHAIN[:1], params(callers=256), seconds=0.0),
        Case(who, params(callers=10_000), seconds=0.0),
    ]


async def _run(lab: Lab) -> Measured:
    async with lab.subject() as subject:
        await lab.fill(subject)
        read = lab.reading(subject)
        trace, heart = await lab.watch(lambda: burst(read, callers=lab.callers, clock=lab.clock))
        return Measured(trace, heart.held)


SCENARIO = Scenario("burst", "lookups that all come at the same moment", _cases, _run)
