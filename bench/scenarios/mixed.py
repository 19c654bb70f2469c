"""A day's work: Zipf-distributed questions, of which some go out of use and new ones come; misses are written."""

from __future__ import annotations

from bench.lab import Lab, Measured
from bench.loops import Outcome
from bench.zipf import zipf

from .base import LANGCHAIN_SOME, Case, Scenario, params

_CHURN = 0.01


def _cases(full: bool) -> list[Case]:
    if not full:
        return []
    return [
        Case(LANGCHAIN_SOME, params(callers=64, keys=10_000, zipf=s, churn=_CHURN), seconds=3.0)
        for s in (0.8, 0.99, 1.2)
    ]


async def _run(lab: Lab) -> Measured:
    drawn = zipf(float(lab.job.params["zipf"]), lab.keys, churn=float(lab.job.params["churn"]))
    stored: set[int] = set()
    async with lab.subject() as subject:

        async def ask(_: int) -> Outcome:
            key = next(drawn)
            expected = key in stored
            if await subject.get([key]):
                return Outcome(hits=1)
            await subject.put([key])
            stored.add(key)
            return Outcome(lost=int(expected))

        measured = await lab.measure(ask)
        measured.timeline = True
        return measured


SCENARIO = Scenario("mixed", "Zipf-distributed reads; what is missed is computed and written", _cases, _run)
