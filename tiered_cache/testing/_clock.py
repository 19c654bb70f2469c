"""Time that passes when a test says so."""

from __future__ import annotations

import threading
from typing import Final

START: Final = 1_700_000_000.0  # some second of November 2023


class ManualClock:
    """Seconds since 1970 that stand still until `advance` is called, from any thread.

    clock = ManualClock()
    front, store = MemoryFront(clock=clock), SqlStore(url, clock=clock)
    clock.advance(60)
    """

    def __init__(self, start: float = START) -> None:
        self._start = start
        self._passed = 0  # microseconds, so that many small steps add up to what they say
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The time now."""
        return self._start + self._passed / 1_000_000

    def __repr__(self) -> str:
        return f"ManualClock({self._start} + {self._passed / 1_000_000} s)"

    def advance(self, seconds: float) -> None:
        """Lets so many seconds pass, to the microsecond. Raises ValueError for a clock to be put back."""
        if seconds < 0:
            raise ValueError("a clock is not put back")
        with self._lock:
            self._passed += round(seconds * 1_000_000)
