"""Single flight where the computation is not ours to call: LangChain looks up, runs the model, and updates.

A lookup that finds nothing and nobody at work leads: those who ask the same question meanwhile wait for the update that
is to come. None may come, since the model failed or was cancelled. So the lead ends when its caller does, noticed by
the first of these:

- The miss that the caller was given is let go of. LangChain keeps it for as long as a chat model computes.
- The task of the caller ends: an exception that somebody keeps, or a cycle, keeps the miss alive as well.
- The caller is on no stack any more, looked at a few times a second. Text models let go of misses at once.
- The limit has passed.

What is called between lookup and update is called inside the computation (`_flights`), so it never waits for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, Final

import anyio

from tiered_cache import _portal as portal
from tiered_cache._compute import Computing, Turn
from tiered_cache._engine import Change
from tiered_cache._errors import ConfigurationError, NotCachedError
from tiered_cache._fail_open import FailOpen
from tiered_cache._flights import Flight, enter, inside, patience
from tiered_cache._fork import forget_after_fork
from tiered_cache._freshness import around
from tiered_cache._keys import Key
from tiered_cache._namespace import runs_a_loop
from tiered_cache._view import View

from ._callers import Caller

#: How often leads are looked at that were not told to be over.
_PAUSE: Final = 0.25


class Lead:
    """The duty to answer a question for all who ask it meanwhile."""

    def __init__(self, computing: Computing, turn: Turn, flight: Flight, caller: Caller, seconds: float) -> None:
        self.flight: Final = flight
        self.caller: Final = caller
        self.until: Final = monotonic() + seconds
        self._computing: Final = computing
        self._turn: Final = turn

    async def land(self, changes: Sequence[Change]) -> None:
        """Gives the answer, the first, to those who wait; stores all unless it was changed meanwhile.

        Raises as a write does.
        """
        self._computing.note(self._turn)
        await self._computing.publish(self._turn, changes)

    def release(self) -> None:
        """Nobody waits any longer. Does not block, on any thread."""
        self._computing.release(self._turn)

    def is_over(self) -> bool:
        return monotonic() >= self.until or self.caller.has_left()


class Miss(tuple[()]):
    """What a lookup gives who is to compute for all: empty, no list, and alive for as long as he computes."""

    _drop: Callable[[], None]

    @classmethod
    def of(cls, drop: Callable[[], None]) -> Miss:
        miss = cls()
        miss._drop = drop
        return miss

    def __del__(self) -> None:
        self._drop()


class NotSharedError(Exception):
    """An answer that is not to be shared: whoever waits for it computes by himself, and none after the other."""


class SingleFlight:
    """The leads of one adapter. `seconds`: how long others wait at most, and how long a lead lasts."""

    def __init__(self, seconds: float, fail_open: FailOpen) -> None:
        if type(seconds) not in (int, float) or not seconds > 0:
            raise ConfigurationError(
                f"single_flight is for how many seconds to wait for another's answer, above 0, or None, not {seconds!r}"
            )
        self._seconds: Final = seconds
        self._fail_open: Final = fail_open
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: the leads are the parent's."""
        self._lock = threading.Lock()
        self._leads: dict[Flight, Lead] = {}
        self._watches = False

    async def look(self, view: View, name: str) -> Any:
        """The value; a `Miss`, where the caller leads; or None, where he computes for himself or forgets misses."""
        self._forsake()
        return self._given(await self._ask(view, name))

    def look_sync(self, view: View, name: str) -> Any:
        """The same for synchronous callers."""
        self._forsake()
        caller = Caller(asynchronous=False)
        token = patience.set("no one" if runs_a_loop() else "synchronous")
        try:
            found = portal.call(self._ask, view, name, caller)
        finally:
            patience.reset(token)
        return self._given(found)

    @contextmanager
    def answering(self, view: View, name: str) -> Generator[Lead | None]:
        """Round an update: the caller's own lead of this question, if it is not over.

        However it ends, nobody waits any longer. Unless it was to `land`, those who waited compute by themselves.
        """
        lead = self._own(view.scope.key(name))
        try:
            yield lead
        finally:
            if lead is not None:
                lead.flight.fail(NotSharedError())
                lead.release()
            enter()

    def _forsake(self) -> None:
        """Ends the leads of a caller who failed, and is here again."""
        for lead in self._around():
            if lead.caller.has_left_here():
                self._release(lead.flight)

    def _own(self, key: Key) -> Lead | None:
        own = [lead for lead in self._around() if lead.flight.key.digest == key.digest]
        innermost = max(own, key=lambda lead: lead.until, default=None)
        return None if innermost is None else self._taken(innermost.flight)

    def _taken(self, flight: Flight) -> Lead | None:
        """For who ends it; None where somebody else did."""
        lead = self._leads.pop(flight, None)
        if lead is not None:
            lead.caller.let_go()
        return lead

    def _around(self) -> list[Lead]:
        """The leads that the current call is made inside of."""
        return [lead for flight in inside() if (lead := self._leads.get(flight))]

    async def _ask(self, view: View, name: str, caller: Caller | None = None) -> Any:
        return await self._fail_open.run("lookup", self._turn(view, name, caller), None)

    async def _turn(self, view: View, name: str, caller: Caller | None) -> Any:
        # Who leads has others waiting for him; he waits no longer than they do.
        now = monotonic()
        wait = min((lead.until - now for lead in self._around()), default=self._seconds)
        computing = Computing(view, name, None, None, max(0.0, wait), around.get())
        try:
            turn = await computing.await_turn()
        except (NotSharedError, NotCachedError):  # the latter is raised where the adapter is told of a miss
            return None
        if computing.unavailable is not None:
            self._fail_open.failed("lookup", computing.unavailable)
        if turn.flight is None:
            return turn.value
        caller = Caller(asynchronous=True) if caller is None else caller
        lead = Lead(computing, turn, turn.flight, caller, self._seconds)
        self._leads[turn.flight] = lead
        self._watch_over()
        return lead

    def _given(self, found: Any) -> Any:
        if not isinstance(found, Lead):
            return found
        enter(found.flight)
        found.caller.when_done(partial(self._release, found.flight))
        return None if found.caller.forgets else Miss.of(partial(self._drop, found.flight))

    def _drop(self, flight: Flight) -> None:
        """For finalizers, which run anywhere, between any two steps: takes no lock."""
        if flight in self._leads:
            portal.soon(partial(self._release, flight))

    def _release(self, flight: Flight) -> None:
        lead = self._taken(flight)
        if lead is not None:
            lead.release()

    def _watch_over(self) -> None:
        with self._lock:
            if self._watches:
                return
            self._watches = True
        try:
            portal.submit(self._watch)
        except RuntimeError:  # no thread can be started just now: leads end otherwise
            self._watches = False

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(_PAUSE)
            with self._lock:
                leads = list(self._leads.values())
                if not leads:
                    self._watches = False
                    return
            for lead in leads:
                if lead.is_over():
                    self._release(lead.flight)
