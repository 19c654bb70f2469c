"""From values to places on an axis, and the ticks in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.units import seconds

_ROOM: Final = 26.0  # that a label needs


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str
    #: Left without a label where there is little room.
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: Sequence[Tick]

    def __call__(self, value: float) -> float:
        """The place of a value; one that lies outside is put on the border."""
        value = min(max(value, self.low), self.high)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        place = math.log(value) if self.log else value
        return self.start + (place - low) / (high - low) * (self.end - self.start)


def linear(values: Iterable[float], start: float, end: float, label: Callable[[float], str]) -> Scale:
    """From zero to a round number above the highest value."""
    top = max(values, default=0.0) or 1.0
    step = _round_step(top / 4)
    count = math.ceil(top / step - 1e-9)
    ticks = [Tick(step * i, label(step * i), minor=count > 3 and i % 2 == 1) for i in range(count + 1)]
    return Scale(0.0, step * count, start, end, log=False, ticks=ticks)


def _round_step(size: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(size))
    return next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= size * (1 - 1e-9))


def logarithmic(
    values: Iterable[float], start: float, end: float, label: Callable[[float], str] = seconds, floor: float = 1e-6
) -> Scale:
    """From the 1, 2 or 5 below the lowest value to the one above the highest. Values below `floor` count as `floor`."""
    held = [max(value, floor) for value in values] or [1e-3, 1.0]
    steps = _steps(min(held), max(held))
    if len(steps) * _ROOM > abs(end - start):
        whole = [step for step in steps if _is_power_of_ten(step)]
        every = math.ceil(len(whole) * _ROOM / abs(end - start))
        ticks = [Tick(step, label(step) if i % every == 0 else "") for i, step in enumerate(whole)]
    else:
        ticks = [Tick(step, label(step), minor=not _is_power_of_ten(step)) for step in steps]
    return Scale(steps[0], steps[-1], start, end, log=True, ticks=ticks)


def _steps(low: float, high: float) -> list[float]:
    steps = [
        factor * 10.0**exponent
        for exponent in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        for factor in (1, 2, 5)
    ]
    first = max(i for i, step in enumerate(steps) if step <= low * (1 + 1e-9))
    last = min(i for i, step in enumerate(steps) if step >= high * (1 - 1e-9))
    return steps[first : max(last, first + 1) + 1]


def _is_power_of_ten(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


def choices(values: Iterable[float], start: float, end: float) -> Scale:
    """For a few given numbers, such as callers: a log scale with a tick at each and some air at both ends."""
    given = sorted(set(values))
    ticks = [Tick(value, f"{value:g}") for value in given]
    return Scale(given[0] / 1.25, given[-1] * 1.25, start, end, log=True, ticks=ticks)


def share_of_slowest(operations: float, start: float, end: float) -> Scale:
    """The axis of latency curves: log of 1/(1-q), so that every further nine takes the same room."""
    slowest = max(operations, 100.0)
    named = ["min", "p90", "p99", "p99.9", "p99.99", "p99.999", "p99.9999", "p99.99999"]
    ticks = [Tick(10.0**i, name) for i, name in enumerate(named) if 10.0**i <= slowest]
    ticks.insert(1, Tick(2.0, "p50", minor=True))
    return Scale(1.0, slowest, start, end, log=True, ticks=ticks)
