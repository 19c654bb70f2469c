"""What clearing a namespace costs, with few and with many entries in the cache."""

from __future__ import annotations

from bench.lab import Lab, Measured
from bench.loops import Outcome, passes

from .base import Case, Scenario, params

_PARTS = 20
_SHORT_ENTRIES = (1000, 100_000)
_ENTRIES = (1000, 1_000_000)
_OURS = ("tiered-langchain-redis-postgres", "tiered-langchain-redis-sqlite", "tiered-langchain-embedded")
_PEERS = ("langgraph-RedisCache", "langgraph-SqliteCache", "langchain-AsyncRedisCache")


def _cases(full: bool) -> list[Case]:
    if not full:
        return [Case(_OURS[:1], params(entries=entries, parts=_PARTS), seconds=0.0) for entries in _SHORT_ENTRIES]
    found = [Case(_OURS[:1], params(entries=entries, parts=_PARTS), seconds=0.0) for entries in _ENTRIES]
    # Filling others with a million entries takes them many minutes.
    others = [Case((*_OURS[1:], *_PEERS), params(entries=n, parts=_PARTS), seconds=0.0) for n in _SHORT_ENTRIES]
    return [*found, *others]


async def _run(lab: Lab) -> Measured:
    parts = lab.job.number("parts")
    each = lab.job.number("entries") // parts
    # Filling sends batches far larger than those of a service.
    async with lab.subject(front_timeout=10.0, store_timeout=60.0, mark_ttl=120.0) as subject:
        for part in range(parts):  # so that few entries and many find everything warm
            await subject.clear(part)
        for part in range(parts):
            await subject.fill_part(part, range(part * each, (part + 1) * each))

        async def clear(part: int) -> Outcome:
            await subject.clear(part)
            return Outcome()

        async def nothing() -> None:
            pass

        trace, heart = await lab.watch(
            lambda: passes(clear, range(parts), callers=1, seconds=1e-9, clock=lab.clock, between=nothing)
        )
        return Measured(trace, heart.held)


SCENARIO = Scenario("clear", "clearing one namespace of twenty, among many entries", _cases, _run, clears=True)
