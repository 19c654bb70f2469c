"""What the store's clock may show just now, as far as this process can tell without asking it.

An age is the difference of two moments by one clock, the store's: that at which a value was made, which its envelope
carries, and now. No two machines' clocks are compared. The store is asked what time it is once in a while, and what has
passed since is counted here. Its answer was true at some moment between question and answer, so `latest` counts from
the question, `earliest` from the answer: a value is stamped with a moment that has come, and its age counted to one
that may not have. An age is therefore never too low, and too high by no more than both exchanges took, 2 ms, and two
thousandths of what had passed since each: one is allowed for clocks that drift apart, and they may drift the other way.

(A clock that is put back is no clock: a value stamped later than the latest moment has no age that anybody knows.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

#: How often, in seconds, the store is asked; and how soon again where it did not answer.
_EVERY: Final = 60.0
_RETRY: Final = 1.0

_DRIFT: Final = 0.001

_MOST: Final = 1 << 62


class _Asked(NamedTuple):
    """When, by the clock here in seconds, the store was asked and had answered; and what, in milliseconds."""

    asked: float
    answered: float
    said: int


def elapsed() -> float:
    """Seconds since some moment. Where the system can tell, those that it spent asleep as well."""
    return _elapsed()


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_elapsed: Final[Callable[[], float]] = _boottime if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic


class StoreClock:
    """Moments are in milliseconds since 1970 by the store's clock. `tick` counts seconds here. For any thread."""

    def __init__(self, tick: Callable[[], float] = elapsed) -> None:
        self.tick: Final = tick
        self._asked: _Asked | None = None
        self._due = -math.inf

    @property
    def known(self) -> bool:
        """Whether the store has told the time at least once."""
        return self._asked is not None

    def due(self) -> bool:
        """Whether the caller is to ask the store: the first who is told so, or everybody until an answer is known."""
        now = self.tick()
        if now < self._due:
            return False
        if self._asked is not None:
            self._due = now + _EVERY
        return True

    def learn(self, asked: float, said: int) -> None:
        """The store's answer to a question asked when `tick` was `asked`."""
        if 0 <= said < _MOST:
            now = self.tick()
            self._asked = _Asked(asked, now, said)
            self._due = now + _EVERY

    def failed(self) -> None:
        """It did not answer."""
        self._due = self.tick() + _RETRY

    def earliest(self, at: float | None = None) -> int | None:
        """A moment that had come when `tick` was `at`, or has now; None where nothing is known."""
        known = self._asked
        if known is None:
            return None
        passed = (self.tick() if at is None else at) - known.answered
        return max(0, known.said + math.floor(1000 * (passed - abs(passed) * _DRIFT)))

    def latest(self) -> int | None:
        """A moment that has not passed yet; None where nothing is known."""
        known = self._asked
        if known is None:
            return None
        return known.said + 1 + math.ceil(1000 * (self.tick() - known.asked) * (1 + _DRIFT))

    def age(self, made: int | None) -> int | None:
        """How old, in milliseconds and at most, what was made at a moment is; None where nobody can tell."""
        latest = self.latest()
        return None if made is None or latest is None or made > latest else latest - made
