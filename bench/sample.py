"""From a trace to what is kept of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from .histogram import latency
from .job import Job
from .lab import Measured
from .lag import lag
from .loops import Trace
from .record import Sample, Slice

_SLICE_SECONDS = 0.1


def sample_of(job: Job, measured: Measured) -> Sample:
    """Latency is that of operations that were answered; errors are counted, and not mixed with answers.

    `achieved` counts operations that brought all that they should: one that lost a hit has done nothing for its caller.
    """
    trace = measured.trace
    done = sum(not failed and not lost for failed, lost in zip(trace.failed, trace.lost, strict=True))
    return Sample(
        scenario=job.scenario,
        contender=job.contender,
        round=job.round,
        mode=job.mode,
        params=job.params,
        offered=float(job.params["rate"]) if job.mode == "open" else None,
        achieved=done / trace.seconds if trace.seconds else 0.0,
        seconds=trace.seconds,
        operations=len(trace),
        lost=sum(trace.lost) + measured.lost,
        errors=dict(trace.errors),
        latency=latency(
            end - due for due, end, failed in zip(trace.due, trace.end, trace.failed, strict=True) if not failed
        ),
        lag=lag(trace) if job.mode == "open" else 0.0,
        loop_held=measured.loop_held,
        refused=measured.refused,
        timeline=timeline(trace) if measured.timeline else (),
        events=measured.events,
        stages=measured.stages,
        sizes=measured.sizes,
    )


def refused(job: Job, why: str) -> Sample:
    """A sample that says why there is none."""
    return Sample(
        scenario=job.scenario,
        contender=job.contender,
        round=job.round,
        mode=job.mode,
        params=job.params,
        offered=float(job.params["rate"]) if job.mode == "open" else None,
        achieved=0.0,
        seconds=0.0,
        operations=0,
        lost=0,
        errors={},
        latency=None,
        refused=why,
    )


def timeline(trace: Trace) -> Sequence[Slice]:
    """Operations by the stretch in which they were due. Stretches in which none was due are not in it."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for number, due in enumerate(trace.due):
        numbers[int((due - trace.began) / _SLICE_SECONDS)].append(number)
    return [_slice(trace, place, numbers[place]) for place in sorted(numbers)]


def _slice(trace: Trace, place: int, numbers: Sequence[int]) -> Slice:
    took = latency(trace.end[n] - trace.due[n] for n in numbers if not trace.failed[n])
    return Slice(
        at=round(place * _SLICE_SECONDS, 6),
        operations=len(numbers),
        errors=sum(trace.failed[n] for n in numbers),
        hits=sum(trace.hits[n] for n in numbers),
        p50=took.p50 if took else 0.0,
        p99=took.p99 if took else 0.0,
    )
