"""Single flight: of all in this process who want the same value, one computes it and the others are given it.

Who waits for whom is limited so that nobody can wait for himself:

- A call made inside the computation of the same key computes too.
- A synchronous call on a thread that runs an event loop waits for no one: it may be holding up the very loop that the
  computation needs. On any other thread it waits for synchronous callers only, whose computations run in threads.
- An asynchronous call waits for anyone.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

import anyio

from ._fork import forget_after_fork

Patience = Literal["anyone", "synchronous", "no one"]

_COUNTERS: Final = 4096

#: Whom the current call may wait for.
patience: ContextVar[Patience] = ContextVar("tiered_cache.patience", default="anyone")

_computing: ContextVar[frozenset[bytes]] = ContextVar("tiered_cache.computing", default=frozenset())


class Flight:
    """One computation under way. Ends `landed`, with an envelope or an error; or not landed, if it was cancelled."""

    def __init__(self, *, synchronous: bool) -> None:
        self.synchronous: bool = synchronous
        self.landed: bool = False
        self.envelope: bytes | None = None
        self.error: Exception | None = None
        self._lock = threading.Lock()
        self._over = False
        self._wake: list[Callable[[], None]] = []

    def succeed(self, envelope: bytes) -> None:
        self.envelope = envelope
        self.landed = True

    def fail(self, error: Exception) -> None:
        """Has no effect on a flight that succeeded: what happened later does not concern those who wait."""
        if not self.landed:
            self.error = error
            self.landed = True

    async def wait(self) -> None:
        """Returns when the flight is over. May be awaited on any loop."""
        event = anyio.Event()
        with self._lock:
            if self._over:
                return
            self._wake.append(_setter(event))
        await event.wait()

    def end(self) -> None:
        with self._lock:
            self._over = True
            waiting, self._wake = self._wake, []
        for wake in waiting:
            try:
                wake()
            except RuntimeError:  # its loop has ended, and the caller with it
                continue


class Flights:
    """The computations under way in this process, by the digest of their key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[bytes, Flight] = {}
        self._ended = [0] * _COUNTERS
        forget_after_fork(self)

    def ended(self, digest: bytes) -> int:
        """A count of computations that ended: who sees it unchanged knows that none of this key did meanwhile.

        Keys share counters, but few share one: with one for all, no key would ever be sure on a busy process.
        """
        return self._ended[_counter(digest)]

    def join(self, digest: bytes) -> tuple[Flight, bool]:
        """The flight of this key, and whether the caller leads it and must `end` it."""
        whom = patience.get()
        with self._lock:
            flight = self._flights.get(digest)
            if flight is None:
                flight = self._flights[digest] = Flight(synchronous=whom != "anyone")
                return flight, True
            may_wait = whom == "anyone" or (whom == "synchronous" and flight.synchronous)
            if digest in _computing.get() or not may_wait:
                return Flight(synchronous=True), True  # on his own: nobody else knows of this one
            return flight, False

    def end(self, digest: bytes, flight: Flight, *, computed: bool = True) -> None:
        """`computed` is false where the leader gives the flight up at once: that is no news to anybody else."""
        with self._lock:
            if self._flights.get(digest) is flight:
                del self._flights[digest]
            if computed:
                self._ended[_counter(digest)] += 1
        flight.end()

    def forget(self) -> None:
        """After a fork, in the child: the computations went on in the parent."""
        self._lock = threading.Lock()
        self._flights = {}


def _counter(digest: bytes) -> int:
    return int.from_bytes(digest[:4], "big") % _COUNTERS


@contextmanager
def computing(digest: bytes) -> Generator[None]:
    """Marks what is called within as part of the computation of this key."""
    token = _computing.set(_computing.get() | {digest})
    try:
        yield
    finally:
        _computing.reset(token)


def _setter(event: anyio.Event) -> Callable[[], None]:
    """Sets an event of the current loop from any thread."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        token = sys.modules["trio"].lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(event.set)

    def wake() -> None:
        loop.call_soon_threadsafe(event.set)

    return wake
