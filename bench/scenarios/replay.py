"""A workload as `tune` plays it: by callers that never rest, from a full store and a front that has to be filled."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import cast

from bench import payloads
from bench.contenders.base import Setting, Subject
from bench.contenders.tiered import TieredPlain
from bench.lab import Lab, Measured
from bench.loops import Outcome
from tiered_cache import Front

from .base import Case, Scenario
from .stages import Stopwatch, TimedFront


def _cases(_: bool) -> list[Case]:
    return []  # it takes a workload, which only `tune` has


def _requests(lab: Lab) -> list[tuple[int, int, float]]:
    found: list[tuple[int, int, float]] = json.loads(Path(str(lab.job.params["workload"])).read_text())
    return found


async def _run(lab: Lab) -> Measured:
    requests = _requests(lab)
    front, store = str(lab.job.params["front"]), str(lab.job.params["store"])
    watch = Stopwatch()

    def timed(inner: Front) -> Front:
        return TimedFront(inner, watch)

    def make(setting: Setting) -> Subject:
        return TieredPlain(setting, front, store, timed)

    async with lab.subject(make=make) as subject:
        space = cast("TieredPlain", subject).space
        sizes = {key: size for key, size, _ in requests}
        for size, keys in _by_size(sizes).items():
            for start in range(0, len(keys), 256):
                value = payloads.plain(0, size)
                await space.set_many({payloads.key(key): value for key in keys[start : start + 256]})
        await subject.empty_front()

        async def ask(number: int) -> Outcome:
            key, size, _ = requests[number % len(requests)]
            name = payloads.key(key)
            if await space.get(name) is None:
                await space.set(name, payloads.plain(key, size))
                return Outcome()
            return Outcome(hits=1)

        measured = await lab.measure(ask)
    exchanges = sorted(watch.times["front"])
    if exchanges:
        measured.stages = {
            "front p50": median(exchanges),
            **{f"front p{p}": exchanges[min(len(exchanges) - 1, int(len(exchanges) * p / 100))] for p in (99, 99.9)},
            "front max": exchanges[-1],
        }
    return measured


def _by_size(sizes: dict[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for key, size in sizes.items():
        found[size].append(key)
    return found


SCENARIO = Scenario("replay", "a workload, as fast as it goes", _cases, _run)
