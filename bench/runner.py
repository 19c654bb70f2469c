"""Takes the samples of a plan, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .contenders import contenders
from .figures import figures
from .job import Job, Place
from .machine import machine, versions
from .plan import Step
from .record import Run, Sample
from .sample import refused
from .tiers import Tiers
from .worker import measure


def run(
    steps: Sequence[Step], tiers: Tiers, *, profile: str, rounds: int, tell: Callable[[Step, Sample | None], None]
) -> Run:
    """`tell` hears of each step before and after its sample is taken. Interrupted, it keeps what there is."""
    started, began = datetime.now(UTC), time.monotonic()
    where = machine()
    samples: list[Sample] = []
    try:
        for step in steps:
            tell(step, None)
            sample = take(step, tiers)
            samples.append(sample)
            tell(step, sample)
    except KeyboardInterrupt:  # hours of measurements are not thrown away
        profile += ", stopped"
    return Run(
        started=started.isoformat(timespec="seconds"),
        seconds=time.monotonic() - began,
        profile=profile,
        rounds=rounds,
        machine=where,
        versions=versions(),
        tiers=tiers.names,
        samples=samples,
        figures=figures(samples),
    )


def take(step: Step, tiers: Tiers, options: Mapping[str, Any] | None = None) -> Sample:
    """One sample. A schedule that the generator could not keep is tried once more."""
    with tiers.place() as place:
        job = _job(step, place, options or {})
        if step.scenario.clears and contenders()[step.contender].flushes and not tiers.own_redis:
            return refused(job, "its clear is FLUSHDB, which is not done to a Redis that was given")
        sample = measure(job)
    if sample.refused.startswith("the generator"):
        with tiers.place() as place:
            sample = measure(_job(step, place, options or {}))
    return sample


def _job(step: Step, place: Place, options: Mapping[str, Any]) -> Job:
    case = step.case
    return Job(step.scenario.name, step.contender, step.round, case.mode, case.params, case.seconds, place, options)
