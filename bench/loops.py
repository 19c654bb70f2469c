"""The two ways to put load on something.

An open loop has a schedule that waits for nobody, and counts latency from the moment an operation was due: what queues
up behind a slow answer is part of the measurement (no coordinated omission). A closed loop, in which callers ask again
as soon as they are answered, finds the highest rate and says little about latency.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .clock import Clock


class Outcome(NamedTuple):
    """What an operation brought: keys found, and keys that were there and were not found."""

    hits: int = 0
    lost: int = 0


#: One operation; its argument is its number.
Operate = Callable[[int], Awaitable[Outcome]]

#: How long an open loop waits for what is still under way when its schedule is over.
DRAIN_SECONDS = 10.0

_TURN_SECONDS = 0.001
_AT_ONCE = 1024


def _doubles() -> array[float]:
    return array("d")


def _whole_numbers() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Trace:
    """Every operation of a measurement: three moments, and what came of it. Moments are the clock's, in seconds."""

    due: array[float] = field(default_factory=_doubles)
    start: array[float] = field(default_factory=_doubles)
    end: array[float] = field(default_factory=_doubles)
    hits: array[int] = field(default_factory=_whole_numbers)
    lost: array[int] = field(default_factory=_whole_numbers)
    failed: bytearray = field(default_factory=bytearray)
    errors: Counter[str] = field(default_factory=Counter[str])
    #: When it began, and how long it was measured (without the pauses between passes).
    began: float = 0.0
    seconds: float = 0.0

    def add(self, due: float, start: float, end: float, outcome: Outcome | BaseException) -> None:
        failed = isinstance(outcome, BaseException)
        self.due.append(due)
        self.start.append(start)
        self.end.append(end)
        self.hits.append(0 if failed else outcome.hits)
        self.lost.append(0 if failed else outcome.lost)
        self.failed.append(failed)
        if failed:
            self.errors[type(outcome).__name__] += 1

    def __len__(self) -> int:
        return len(self.due)


async def _operate(operate: Operate, number: int, due: float, clock: Clock, trace: Trace) -> None:
    start = clock.now()
    try:
        outcome = await operate(number)
    except Exception as error:  # noqa: BLE001  (whatever a contender raises is counted against it)
        trace.add(due, start, clock.now(), error)
    else:
        trace.add(due, start, clock.now(), outcome)


async def open_loop(operate: Operate, *, rate: float, seconds: float, clock: Clock) -> Trace:
    """Operation n is due n / rate seconds after the beginning, whatever became of those before it."""
    trace = Trace(began=clock.now())
    tasks: set[asyncio.Task[None]] = set()  # bare tasks: a task group costs several times as much for each
    dues = [trace.began + number / rate for number in range(max(1, round(rate * seconds)))]
    for number, due in enumerate(dues):
        await clock.until(due)
        task = asyncio.create_task(_operate(operate, number, due, clock, trace))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if number % _AT_ONCE == _AT_ONCE - 1:  # what is overdue is started together, yet not without end
            await asyncio.sleep(0)
    await clock.until(trace.began + seconds)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        await _give_up(late, trace, clock)
    trace.seconds = max(seconds, max(trace.end, default=trace.began) - trace.began)
    return trace


async def _give_up(late: set[asyncio.Task[None]], trace: Trace, clock: Clock) -> None:
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=DRAIN_SECONDS)
        now = clock.now()
        for _ in late:
            trace.add(trace.began, trace.began, now, NotAnsweredError())


class NotAnsweredError(Exception):
    """An operation was still under way long after the schedule was over."""


async def closed_loop(operate: Operate, *, callers: int, seconds: float, clock: Clock) -> Trace:
    """`callers` ask again as soon as they are answered, until the time is over."""
    trace = Trace(began=clock.now())
    numbers = iter(range(1 << 62))
    stop = trace.began + seconds

    turn = trace.began

    async def call() -> None:
        nonlocal turn
        while (now := clock.now()) < stop:
            if now - turn > _TURN_SECONDS:  # an operation that blocks and never waits must not keep the others out
                await asyncio.sleep(0)
                turn = now = clock.now()
            await _operate(operate, next(numbers), now, clock, trace)

    await asyncio.gather(*(call() for _ in range(callers)))
    trace.seconds = clock.now() - trace.began
    return trace


async def passes(
    operate: Operate,
    numbers: Sequence[int],
    *,
    callers: int,
    seconds: float,
    clock: Clock,
    between: Callable[[], Awaitable[None]],
) -> Trace:
    """A closed loop in passes: each asks every number once, `between` (not measured) comes before each."""
    trace = Trace(began=clock.now())
    while trace.seconds < seconds:
        await between()
        began = clock.now()
        left = iter(numbers)
        await asyncio.gather(*(_ask_all(operate, left, clock, trace) for _ in range(callers)))
        trace.seconds += clock.now() - began
    return trace


async def _ask_all(operate: Operate, left: Iterator[int], clock: Clock, trace: Trace) -> None:
    for number in left:
        await _operate(operate, number, clock.now(), clock, trace)


async def burst(operate: Operate, *, callers: int, clock: Clock) -> Trace:
    """All at once, each one time."""
    trace = Trace(began=clock.now())
    began = trace.began
    await asyncio.gather(*(_operate(operate, number, began, clock, trace) for number in range(callers)))
    trace.seconds = clock.now() - began
    return trace
