"""The time of a measurement, in seconds. Tests put one of their own in its place."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from contextlib import suppress
from typing import Protocol

# A moment, a number that no other has (futures cannot be compared), and whom to wake.
_Wait = tuple[float, int, asyncio.Future[None]]


class Clock(Protocol):
    def now(self) -> float: ...

    async def until(self, moment: float) -> None:
        """Returns once `moment` has come; at once where it has passed."""
        ...


class LoopClock:
    """Waits in a thread: asyncio's own timers are up to 1 ms late, which is longer than many a cache hit."""

    def __init__(self) -> None:
        # No queue: CPython's `SimpleQueue.get` may wait for ever where its timeout passes before it begins to wait.
        self._changed = threading.Condition()
        self._waiting: list[_Wait] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closing = False

    def now(self) -> float:
        return time.perf_counter()

    async def until(self, moment: float) -> None:
        if moment <= self.now():
            return
        if self._thread is None:
            self._closing = False
            self._thread = threading.Thread(target=self._wait, name="bench clock", daemon=True)
            self._thread.start()
        woken = asyncio.get_running_loop().create_future()
        with self._changed:
            heapq.heappush(self._waiting, (moment, next(self._numbers), woken))
            self._changed.notify()
        await woken

    def close(self) -> None:
        if self._thread is not None:
            with self._changed:
                self._closing = True
                self._changed.notify()
            self._thread.join()
            self._thread = None

    def _wait(self) -> None:
        with self._changed:
            while not self._closing:
                left = self._waiting[0][0] - time.perf_counter() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)
                else:
                    woken = heapq.heappop(self._waiting)[2]
                    with suppress(RuntimeError):  # its loop is closed
                        woken.get_loop().call_soon_threadsafe(_wake, woken)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
