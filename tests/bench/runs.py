"""Made-up runs, shaped like real ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, cast

from hdrh.histogram import HdrHistogram

from bench.record import Figure, Latency, Run, Sample, Slice

#: Rate at 64 callers, seconds of a lone operation.
CONTENDERS: Final = {
    "tiered_cache (redis+postgres)": (31_000.0, 190e-6),
    "raw redis-py": (42_000.0, 160e-6),
    "AsyncRedisCache": (2_900.0, 310e-6),
    "RedisCache": (1_400.0, 420e-6),
    "SQLAlchemyCache (postgres)": (610.0, 1.9e-3),
    "SQLAlchemyMd5Cache (postgres)": (560.0, 2.1e-3),
    "langgraph SqliteCache": (900.0, 600e-6),
    "raw asyncpg": (9_800.0, 380e-6),
    "tiered_cache (embedded)": (52_000.0, 21e-6),
    "cashews": (7_400.0, 290e-6),
}
_MAKE: Any = cast("Any", HdrHistogram)


def latency_of(durations: Sequence[float]) -> Latency:
    """`durations` are in seconds."""
    histogram = _MAKE(1, 60_000_000, 3)
    for duration in durations:
        histogram.record_value(max(1, round(duration * 1e6)))
    found = histogram.get_percentile_to_value_dict([50, 90, 99, 99.9, 100])
    values = [found[share] * 1e-6 for share in (50, 90, 99, 99.9, 100)]
    return Latency(*values, histogram=histogram.encode().decode())


def make_sample(**changes: Any) -> Sample:
    sample = Sample(
        scenario="hit-front",
        contender="tiered_cache (redis+postgres)",
        round=1,
        mode="closed",
        params={"callers": 64.0, "batch": 1.0, "value_bytes": 2000.0},
        offered=None,
        achieved=1000.0,
        seconds=2.0,
        operations=2000,
        lost=0,
        errors={},
        latency=latency_of([0.001, 0.002, 0.003, 0.004]),
    )
    return replace(sample, **changes)


def make_figure(**changes: Any) -> Figure:
    figure = Figure("hit, 64 callers, against AsyncRedisCache", 10.7, "x", 10.0, above=True, low=10.1, high=11.2)
    return replace(figure, **changes)


def make_run(samples: Sequence[Sample] = (), figures: Sequence[Figure] = (), **changes: Any) -> Run:
    run = Run(
        started="2026-11-20T21:14:05+00:00",
        seconds=6130.0,
        profile="full",
        rounds=5,
        machine={"cpu": "AMD EPYC 7B13", "cores": "2", "memory": "8 GB", "system": "Linux 6.1", "shared": "yes"},
        versions={
            "tiered-cache": "0.1.0",
            "python": "3.11.7",
            "redis-py": "8.1.0",
            "asyncpg": "0.32.0",
            "Redis": "7.0",
        },
        tiers={"front": "redis://localhost:6379/0", "store": "postgresql+asyncpg://app@localhost/bench"},
        samples=samples,
        figures=figures,
    )
    return replace(run, **changes)


def realistic_run(rounds: int = 5, operations: int = 3000) -> Run:
    """Ten contenders in several scenarios: lost hits, errors, refusals and a fault among them."""
    random = Random(20261120)
    samples: list[Sample] = []
    for number in range(1, rounds + 1):
        for contender in CONTENDERS:
            samples += [
                _closed(random, "hit-front", contender, number, callers, 2000.0, operations)
                for callers in (1.0, 16.0, 64.0, 256.0)
            ]
            samples += [
                _open(random, "zipf", contender, number, value_bytes, operations)
                for value_bytes in (200.0, 2000.0, 20_000.0)
            ]
            samples.append(_open(random, "write", contender, number, 2000.0, operations))
            samples.append(_degraded(random, contender, number))
    return make_run(samples, _figures(), rounds=rounds)


def _closed(
    random: Random, scenario: str, contender: str, number: int, callers: float, value_bytes: float, operations: int
) -> Sample:
    peak, alone = CONTENDERS[contender]
    rate = min(callers / alone, peak * (1 - math.exp(-callers / 20))) * random.uniform(0.94, 1.06)
    durations = [random.lognormvariate(math.log(callers / rate), 0.3) for _ in range(operations)]
    overrun = contender in {"AsyncRedisCache", "RedisCache"} and callers == 256
    lone = callers == 1
    stages = {"key": 4e-6, "batch": 9e-6, "front": 0.68 * alone, "decode": 0.12 * alone, "wake-up": 0.1 * alone}
    return make_sample(
        scenario=scenario,
        contender=contender,
        round=number,
        params={"callers": callers, "batch": 1.0, "value_bytes": value_bytes},
        achieved=rate,
        operations=operations,
        seconds=operations / rate,
        lost=random.randint(80, 140) if overrun else 0,
        errors={"MaxConnectionsError": random.randint(20, 60)} if overrun else {},
        latency=latency_of(durations),
        loop_held=random.uniform(1e-4, 3e-3),
        stages=stages if lone and "raw" not in contender else {},
    )


def _open(random: Random, scenario: str, contender: str, number: int, value_bytes: float, operations: int) -> Sample:
    peak, alone = CONTENDERS[contender]
    offered = 500.0
    slow = 1.0 + value_bytes / 20_000
    durations = [
        alone * slow * random.lognormvariate(0.1, 0.25) * (random.paretovariate(1.6) if random.random() < 0.04 else 1)
        for _ in range(operations)
    ]
    late = peak < 600
    return make_sample(
        scenario=scenario,
        contender=contender,
        round=number,
        mode="open",
        params={"batch": 1.0, "value_bytes": value_bytes, "zipf": 0.99} if scenario == "zipf" else {"batch": 1.0},
        offered=offered,
        achieved=offered * random.uniform(0.97, 1.0),
        operations=operations,
        seconds=operations / offered,
        latency=latency_of(durations),
        lag=0.021 if late else random.uniform(1e-5, 3e-4),
        refused="the generator lagged by 21 ms (p99)" if late and number == 2 else "",
    )


def _degraded(random: Random, contender: str, number: int) -> Sample:
    peak, alone = CONTENDERS[contender]
    events: Mapping[str, float] = {"front frozen": 2.0, "front back": 4.02, "front flushed": 4.4}
    common = {"scenario": "degraded", "contender": contender, "round": number, "mode": "open"}
    params: Mapping[str, float | str] = {"callers": 0, "batch": 1.0, "rate": 400.0, "fault": "front frozen"}
    if contender == "cashews":
        why = "it could not be set up: ConnectionError: the front went away"
        return make_sample(
            **common, params=params, latency=None, operations=0, achieved=0.0, seconds=0.0, refused=why, offered=400.0
        )
    ours = "tiered" in contender
    timeline = [_slice(random, step / 5, ours, min(peak, 400.0), alone) for step in range(40)]
    errors = sum(part.errors for part in timeline)
    durations = [part.p50 for part in timeline for _ in range(part.operations)]
    return make_sample(
        **common,
        params=params,
        offered=400.0,
        achieved=sum(part.operations for part in timeline) / 8,
        seconds=8.0,
        operations=sum(part.operations for part in timeline),
        errors={"TimeoutError": errors} if errors else {},
        latency=latency_of(durations),
        timeline=timeline,
        events=events,
    )


def _slice(random: Random, at: float, ours: bool, rate: float, alone: float) -> Slice:
    frozen, cold = 2.0 <= at < 4.0, 4.4 <= at < 5.2
    done = round(rate / 5 * random.uniform(0.95, 1.03))
    p50 = alone * random.uniform(0.95, 1.1)
    if frozen and not ours:
        errors = random.randint(3, 9)
        answered = 0 if at < 2.6 else 4
        return Slice(at, errors + answered, errors, 0, 1.0, 1.0 + random.random() if answered else 0.0)
    if frozen:
        return Slice(at, done, 0, done, 0.0021, 0.051 if at < 2.4 else 0.006)
    hits = round(done * (0.6 + 0.4 * (at - 4.4) / 0.8)) if cold else done
    return Slice(at, done, 0, hits, p50 * (3 if cold else 1), p50 * (14 if cold else 4) * random.uniform(0.9, 1.2))


def _figures() -> list[Figure]:
    return [
        make_figure(),
        make_figure(
            name="hit, one caller, p50, against AsyncRedisCache", value=0.61, goal=1.0, above=False, low=0.58, high=0.66
        ),
        make_figure(
            name="hit, one caller, p50, against a raw GET",
            value=1.38,
            goal=1.3,
            above=False,
            low=1.24,
            high=1.45,
            note="The wake-up of the event loop costs 28 µs; see where the time goes.",
        ),
        make_figure(
            name="hits lost at 10,000 callers", value=0.0, unit="keys", goal=0.0, above=False, low=0.0, high=0.0
        ),
        make_figure(name="hit in the store, against SQLAlchemyCache", value=23.4, goal=20.0, low=21.9, high=25.2),
        make_figure(
            name="clear among 1,000,000 entries",
            value=0.0031,
            unit="s",
            goal=0.005,
            above=False,
            low=0.0026,
            high=0.0048,
        ),
    ]
