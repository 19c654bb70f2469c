"""Hits that the front answers: the everyday case."""

from __future__ import annotations

from bench.lab import Lab, Measured

from .base import (
    LANGCHAIN,
    LANGCHAIN_ALL,
    LANGCHAIN_SOME,
    LANGGRAPH,
    LANGGRAPH_ALL,
    LANGGRAPH_EMBEDDED,
    PLAIN_ALL,
    Case,
    Scenario,
    params,
    seconds,
)

_SIZES = ((200, 512), (20_000, 256), (200_000, 32))
_NEAR = "tiered-langchain-near"
_RATES = (500, 1000, 2000, 4000, 8000)


def _cases(full: bool) -> list[Case]:
    time = seconds(full)
    if not full:
        return [
            Case(LANGCHAIN, params(callers=64), seconds=time),
            Case((*LANGCHAIN, _NEAR, "redis-py"), params(callers=1), seconds=time),
            Case(LANGGRAPH, params(callers=1, batch=16), seconds=time),
            Case(LANGGRAPH[:1], params(callers=16, batch=16), seconds=time),
            Case(LANGGRAPH_EMBEDDED, params(callers=64), seconds=time),
            Case(LANGCHAIN, params(callers=0, rate=1000), mode="open", seconds=time, once=True),
        ]
    found = [Case((*LANGCHAIN_ALL, _NEAR, "redis-py"), params(callers=callers)) for callers in (1, 16, 64, 256)]
    found += [Case(LANGCHAIN_SOME, params(callers=64, value_bytes=size, keys=keys)) for size, keys in _SIZES]
    found += [Case(LANGCHAIN_SOME, params(callers=1, batch=batch)) for batch in (16, 64)]
    found += [
        Case((*LANGCHAIN, "langchain-SQLAlchemyCache-postgres"), params(callers=0, rate=rate), mode="open")
        for rate in _RATES
    ]
    for everyone in (LANGGRAPH_ALL, PLAIN_ALL):
        found += [Case(everyone, params(callers=callers)) for callers in (1, 64, 256)]
        found += [Case(everyone, params(callers=1, batch=batch)) for batch in (16, 64)]
    found.append(Case(LANGGRAPH_ALL, params(callers=16, batch=16)))
    return found


async def _run(lab: Lab) -> Measured:
    async with lab.subject() as subject:
        await lab.fill(subject)
        return await lab.measure(lab.reading(subject))


SCENARIO = Scenario("hit-front", "hits that the front answers", _cases, _run)
