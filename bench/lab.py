"""What a scenario works with: its job, its subject, and the two loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock
from .contenders import contender
from .contenders.base import Setting, Subject
from .heartbeat import Heartbeat, heartbeat
from .job import Job, Place
from .lag import why_refused
from .loops import Operate, Outcome, Trace, closed_loop, open_loop

_WARM_SHARE = 0.2
IDLE_SECONDS = 0.2


@dataclass(slots=True)
class Measured:
    """What a scenario brings back."""

    trace: Trace
    loop_held: float = 0.0
    refused: str = ""
    #: Keys lost that no single operation can tell.
    lost: int = 0
    timeline: bool = False
    events: Mapping[str, float] = field(default_factory=dict[str, float])
    stages: Mapping[str, float] = field(default_factory=dict[str, float])
    sizes: Mapping[str, float] = field(default_factory=dict[str, float])


class Lab:
    def __init__(self, job: Job, clock: Clock) -> None:
        self.job = job
        self.clock = clock
        self.value_bytes = job.number("value_bytes", 2300)
        self.callers = job.number("callers", 1)
        self.batch = job.number("batch", 1)
        self.keys = job.number("keys", 512)

    @asynccontextmanager
    async def subject(
        self, place: Place | None = None, make: Callable[[Setting], Subject] | None = None, **options: Any
    ) -> AsyncGenerator[Subject]:
        """The contender, opened. `make` where the scenario needs it built in its own way."""
        setting = Setting(place or self.job.place, self.value_bytes, {**options, **self.job.options})
        subject = (make or contender(self.job.contender).make)(setting)
        await subject.open()
        try:
            yield subject
        finally:
            async with asyncio.timeout(10):
                await subject.aclose()

    async def fill(self, subject: Subject, keys: Sequence[int] | None = None) -> None:
        """Raises AssertionError where what comes out is not what went in."""
        wanted = range(self.keys) if keys is None else keys
        await subject.fill(wanted)
        assert await subject.check(wanted[0]), "what came out is not what went in"

    def reading(self, subject: Subject) -> Operate:
        """Reads `batch` keys that are all there, in an order that visits all of them."""
        keys, batch = self.keys, self.batch

        async def read(number: int) -> Outcome:
            first = number * batch
            found = await subject.get([(first + each) % keys for each in range(batch)])
            return Outcome(found, batch - found)

        return read

    async def measure(self, operate: Operate, *, warm: bool = True) -> Measured:
        """As the job says: a closed loop of `callers`, or an open one at `rate` operations a second."""
        if warm:
            await closed_loop(
                operate, callers=min(self.callers, 64), seconds=self.job.seconds * _WARM_SHARE, clock=self.clock
            )
        if self.job.mode == "open":
            return await self._open(operate)
        async with heartbeat() as heart:
            trace = await closed_loop(operate, callers=self.callers, seconds=self.job.seconds, clock=self.clock)
        return Measured(trace, heart.held)

    async def _open(self, operate: Operate) -> Measured:
        rate = float(self.job.params["rate"])
        before = await self._idle(rate)
        async with heartbeat() as heart:
            trace = await open_loop(operate, rate=rate, seconds=self.job.seconds, clock=self.clock)
        after = await self._idle(rate)
        return Measured(trace, heart.held, why_refused(rate, trace, heart.held, [before, after]))

    async def _idle(self, rate: float) -> Trace:
        return await open_loop(_nothing, rate=rate, seconds=IDLE_SECONDS, clock=self.clock)

    async def watch(self, work: Callable[[], Any]) -> tuple[Trace, Heartbeat]:
        """Runs a loop of the scenario's own, with a heartbeat beside it."""
        async with heartbeat() as heart:
            trace: Trace = await work()
        return trace, heart


async def _nothing(_: int) -> Outcome:
    return Outcome()
