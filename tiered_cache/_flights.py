"""Single flight: of all in this process who want the same value, one computes it and the others are given it.

Who waits for whom is limited so that nobody can wait for himself:

- A call made inside a computation does not wait for one that waits, through however many others, for that computation.
- A synchronous call on a thread that runs an event loop waits for no one: it may be holding up the very loop that the
  computation needs. On any other thread it waits for synchronous callers only, whose computations run in threads.
- An asynchronous call waits for anyone.

A flight is overtaken by any change of its key made here after it began: what it computes is older than that change. It
is given to those who wait, but not stored, and nobody joins it any more.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Literal

import anyio

from ._fork import forget_after_fork
from ._keys import Key, Scope

Patience = Literal["anyone", "synchronous", "no one"]

_COUNTERS: Final = 4096

#: Whom the current call may wait for.
patience: ContextVar[Patience] = ContextVar("tiered_cache.patience", default="anyone")


class Flight:
    """One computation under way. Ends `landed`, with an envelope or an error; or not landed, if it was cancelled."""

    def __init__(self, key: Key, *, synchronous: bool, joinable: bool) -> None:
        self.key: Key = key
        self.synchronous: bool = synchronous
        self.joinable: bool = joinable
        self.overtaken: bool = False
        #: What calls made inside the computation are waiting for just now.
        self.waits_for: list[Flight] = []
        self.landed: bool = False
        self.envelope: bytes | None = None
        self._error: tuple[Exception, TracebackType | None] | None = None
        self._lock = threading.Lock()
        self._over = False
        self._wake: list[Callable[[], None]] = []

    @property
    def ended(self) -> bool:
        return self._over

    def overtake(self) -> None:
        self.overtaken = True
        self.joinable = False

    def succeed(self, envelope: bytes) -> None:
        self.envelope = envelope
        self.landed = True

    def fail(self, error: Exception) -> None:
        """Has no effect on a flight that succeeded: what happened later does not concern those who wait."""
        if not self.landed:
            self._error = (error, error.__traceback__)
            self.landed = True

    def check(self) -> None:
        """Raises the error that the computation ended with."""
        if self._error is not None:
            error, traceback = self._error
            raise error.with_traceback(traceback)  # raised by many, it would collect all their tracebacks

    async def over(self) -> None:
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


#: The computations that the current call is made inside of.
_inside: ContextVar[frozenset[Flight]] = ContextVar("tiered_cache.inside", default=frozenset())


class Flights:
    """The computations under way in this process, by the digest of their key."""

    def __init__(self) -> None:
        self.forget()
        self._news = [0] * _COUNTERS
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: the computations went on in the parent."""
        self._lock = threading.Lock()
        self._flights: dict[bytes, list[Flight]] = {}

    def news(self, key: Key) -> list[int]:
        """Counts of what may concern a key: computations that ended, changes, clears.

        Who sees them unchanged knows that nothing happened to it here meanwhile. Keys share counters, but few share
        one: with one for all, no key would ever be sure on a busy process.
        """
        return [self._news[_counter(name)] for name in (key.digest, *key.scope.addresses)]

    def join(self, key: Key) -> tuple[Flight, bool]:
        """The flight of this key, and whether the caller leads it and must `end` it; if not, he must `wait` for it.

        Or `leave` it.
        """
        whom = patience.get()
        inside = _inside.get()
        with self._lock:
            under_way = self._flights.setdefault(key.digest, [])
            flight = next((flight for flight in under_way if flight.joinable), None)
            if flight is not None and _may_wait(whom, flight) and not _needs(flight, inside):
                for outer in inside:
                    outer.waits_for.append(flight)
                return flight, False
            # Where there is one already, but not for this caller, nobody is told of the second.
            mine = Flight(key, synchronous=whom != "anyone", joinable=flight is None)
            under_way.append(mine)
            return mine, True

    def lead(self, key: Key) -> Flight:
        """A flight beside all others, for somebody who does not wait any longer. Nobody joins it."""
        with self._lock:
            mine = Flight(key, synchronous=patience.get() != "anyone", joinable=False)
            self._flights.setdefault(key.digest, []).append(mine)
            return mine

    async def wait(self, flight: Flight, seconds: float | None = None) -> bool:
        """Returns when the flight is over, or after so many seconds; whether it is."""
        try:
            with anyio.move_on_after(seconds):
                await flight.over()
                return True
            return False
        finally:
            self.leave(flight)

    def leave(self, flight: Flight) -> None:
        """Does not wait for what was joined."""
        with self._lock:
            for outer in _inside.get():
                outer.waits_for.remove(flight)

    def end(self, flight: Flight, *, computed: bool = True) -> None:
        """`computed` is false where the leader gives the flight up at once: that is no news to anybody else."""
        digest = flight.key.digest
        with self._lock:
            under_way = self._flights.get(digest, [])
            if flight in under_way:  # not begun before a fork
                under_way.remove(flight)
            if not under_way:
                self._flights.pop(digest, None)
            if computed:
                self._news[_counter(digest)] += 1
        flight.end()

    @contextmanager
    def overtaken(self, keys: Iterable[Key]) -> Generator[None]:
        """Round a change of these keys: overtakes those who began before it, and those who began before it was done."""
        digests = {key.digest for key in keys}
        self._overtake(digests)
        try:
            yield
        finally:
            self._overtake(digests)

    @contextmanager
    def cleared(self, scope: Scope) -> Generator[None]:
        """The same round a clear of a namespace."""
        self._clear(scope.address)
        try:
            yield
        finally:
            self._clear(scope.address)

    def _overtake(self, digests: set[bytes]) -> None:
        with self._lock:
            for digest in digests:
                self._news[_counter(digest)] += 1
                for flight in self._flights.get(digest, ()):
                    flight.overtake()

    def _clear(self, address: bytes) -> None:
        with self._lock:
            self._news[_counter(address)] += 1
            for under_way in self._flights.values():
                for flight in under_way:
                    if address in flight.key.scope.addresses:
                        flight.overtake()


def is_nested() -> bool:
    """Whether the current call is made inside a computation."""
    return bool(_inside.get()) and bool(inside())


@contextmanager
def computing(flight: Flight) -> Generator[None]:
    """Marks what is called within as part of this computation."""
    token = _inside.set(_inside.get() | {flight})
    try:
        yield
    finally:
        _inside.reset(token)


def inside() -> frozenset[Flight]:
    """The computations that the current call is made inside of."""
    return frozenset(flight for flight in _inside.get() if not flight.ended)


def enter(*flights: Flight) -> None:
    """Marks what the current context calls from now on as part of these computations, for as long as they last.

    For a computation that is no call made here; without any, those that have ended are let go of.
    """
    _inside.set(inside().union(flights))


def _may_wait(whom: Patience, flight: Flight) -> bool:
    return whom == "anyone" or (whom == "synchronous" and flight.synchronous)


def _needs(flight: Flight, ends: frozenset[Flight]) -> bool:
    """Whether a flight cannot end before one of these: it is one of them, or waits for one, directly or not."""
    if not ends:
        return False
    seen, ahead = {flight}, [flight]
    while ahead:
        each = ahead.pop()
        if each in ends:
            return True
        new = set(each.waits_for) - seen
        seen |= new
        ahead += new
    return False


def _counter(name: bytes) -> int:
    return hash(name) % _COUNTERS


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
