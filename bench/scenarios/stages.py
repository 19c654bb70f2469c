"""Where the time of a hit goes. Measured apart from all other samples, since measuring it costs time itself."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from bench.contenders.base import Setting, Subject
from bench.contenders.tiered import TieredLangChain
from bench.lab import Lab, Measured
from tiered_cache import Front, Step
from tiered_cache._keys import Scope

from .base import Case, Scenario, params, seconds


def _cases(full: bool) -> list[Case]:
    return [
        Case(("tiered-langchain-redis-postgres",), params(callers=callers), seconds=seconds(full), once=not full)
        for callers in (1, 64)
    ]


class Stopwatch:
    """How long each stage took, each time."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        times = self.times[stage]

        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                times.append(time.perf_counter() - began)

        return timed


class TimedFront:
    def __init__(self, inner: Front, watch: Stopwatch) -> None:
        self._inner = inner
        self._times = watch.times["front"]
        self.aclose = inner.aclose

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        began = time.perf_counter()
        try:
            return await self._inner.get(keys)
        finally:
            self._times.append(time.perf_counter() - began)

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        return await self._inner.apply(steps, token, mark_ttl)


async def _run(lab: Lab) -> Measured:
    watch = Stopwatch()

    def timed(front: Front) -> Front:
        return TimedFront(front, watch)

    def make(setting: Setting) -> Subject:
        return TieredLangChain(setting, "redis", "postgres", timed)

    from tiered_cache.langchain import _serde

    # This process measures nothing else.
    Scope.key = watch.around("key", Scope.key)
    codec: Any = _serde.GenerationsCodec
    codec.decode = watch.around("decode", codec.decode)
    async with lab.subject(make=make) as subject:
        await lab.fill(subject)
        measured = await lab.measure(lab.reading(subject))
    trace = measured.trace
    whole = median(end - start for start, end in zip(trace.start, trace.end, strict=True))
    stages = {name: median(watch.times[name]) for name in ("key", "front", "decode")}
    # The rest: gathering a batch, judging its cells, and each caller's turn after all those before it in the batch.
    measured.stages = {**stages, "wake-up": max(0.0, whole - sum(stages.values()))}
    return measured


SCENARIO = Scenario("stages", "where the time of a hit goes", _cases, _run)
