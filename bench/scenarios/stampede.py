"""A crowd asks for one key that nobody has computed yet. Each computation but the first is counted as lost."""

from __future__ import annotations

from typing import Any

from bench.lab import Lab, Measured
from bench.loops import Outcome, passes

from .base import Case, Scenario, params

_COMPUTE_SECONDS = 0.02


def _cases(full: bool) -> list[Case]:
    if not full:
        return []
    who = ("tiered-plain-redis-postgres", "tiered-plain-embedded", "cashews")
    return [Case(who, params(callers=callers, compute=_COMPUTE_SECONDS)) for callers in (64, 256)]


async def _run(lab: Lab) -> Measured:
    computed: list[int] = []
    wave = 0
    async with lab.subject() as subject:
        caching: Any = subject

        async def ask(_: int) -> Outcome:
            await caching.get_or_compute(wave, float(lab.job.params["compute"]), computed)
            return Outcome()

        async def next_wave() -> None:
            nonlocal wave
            wave += 1

        trace, heart = await lab.watch(
            lambda: passes(
                ask,
                range(lab.callers),
                callers=lab.callers,
                seconds=lab.job.seconds,
                clock=lab.clock,
                between=next_wave,
            )
        )
        return Measured(trace, heart.held, lost=len(computed) - wave)


SCENARIO = Scenario("stampede", "get_or_compute of one cold key by a crowd", _cases, _run)
