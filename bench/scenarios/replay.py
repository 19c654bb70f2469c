"""A workload as `tune` plays it: by callers that never rest, from a full store and a front that has to be filled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import cast

from bench import payloads
from bench.contenders.base import Setting, Subject
from bench.contenders.tiered import TieredPlain
from bench.lab import Lab, Measured
from bench.loops import Outcome
from tiered_cache import Front, Step

from .base import Case, Scenario
from .stages import Stopwatch, TimedFront

_AT_ONCE = 256


class WeighedFront(TimedFront):
    """Counts the bytes of the cells that go to the front and come from it; keys and the protocol's own are left out."""

    def __init__(self, inner: Front, watch: Stopwatch) -> None:
        super().__init__(inner, watch)
        self.bytes = 0
        self.put = 0  # cells

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        cells = await super().get(keys)
        self.bytes += sum(len(cell) for cell in cells if cell)
        return cells

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        self.bytes += sum(len(step.arg) for step in steps)
        self.put += sum(step.ttl > 0 for step in steps)
        return await super().apply(steps, token, mark_ttl)


def _cases(_: bool) -> list[Case]:
    return []  # it takes a workload, which only `tune` has


def _requests(lab: Lab) -> list[tuple[int, int, float]]:
    found: list[tuple[int, int, float]] = json.loads(Path(str(lab.job.params["workload"])).read_text())
    return found


async def _run(lab: Lab) -> Measured:
    requests = _requests(lab)
    front, store = str(lab.job.params["front"]), str(lab.job.params["store"])
    watch = Stopwatch()
    fronts: list[WeighedFront] = []

    def weighed(inner: Front) -> Front:
        fronts.append(WeighedFront(inner, watch))
        return fronts[-1]

    def make(setting: Setting) -> Subject:
        return TieredPlain(setting, front, store, weighed)

    async with lab.subject(make=make) as subject:
        space = cast("TieredPlain", subject).space
        (scales,) = fronts
        sizes = {key: size for key, size, _ in requests}
        keys = sorted(sizes, key=sizes.__getitem__)  # large values share no batch with small ones
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            await space.set_many({payloads.key(key): payloads.prose(key, sizes[key]) for key in some})
        # By the cells that were put: while a front is slow to answer, some are not.
        held = scales.bytes * len(keys) / scales.put if scales.put else 0.0
        await subject.empty_front()
        scales.bytes = reads = 0

        async def ask(number: int) -> Outcome:
            nonlocal reads
            reads += 1
            key, size, _ = requests[number % len(requests)]
            name = payloads.key(key)
            if await space.get(name) is None:
                await space.set(name, payloads.prose(key, size))
                return Outcome()
            return Outcome(hits=1)

        measured = await lab.measure(ask)
    if held and reads:
        measured.sizes = {"a read": scales.bytes / reads, "all keys": held}
    exchanges = sorted(watch.times["front"])
    if exchanges:
        measured.stages = {
            "front p50": median(exchanges),
            **{f"front p{p}": exchanges[min(len(exchanges) - 1, int(len(exchanges) * p / 100))] for p in (99, 99.9)},
            "front max": exchanges[-1],
        }
    return measured


SCENARIO = Scenario("replay", "a workload, as fast as it goes", _cases, _run)
