"""Whose turn it is to compute: `get_or_compute`, among the callers of this process and among processes.

Here one flight leads and the others wait for it (`_flights`). Who leads takes a lease in the front (`_leases`); while
another process has it, he waits for what that one will have stored. Without a front, every process computes for itself.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio

from ._errors import StoreUnavailableError
from ._flights import Flight, computing, is_nested, patience
from ._leases import Cell, Found, Leases
from ._options import milliseconds
from ._view import MISSING, View, read_across

# How often somebody looks whether another process is done: soon at first, then at a rate that a thousand who wait do
# not trouble the front with.
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25

# A reader's or a writer's mark stands for a moment. One that stands for longer was left by somebody who died.
_PASSING_SECONDS: Final = 1.0

# How often the tiers are looked into again where there is a value and the last look did not find one.
_LOOKS: Final = 3


@dataclass(slots=True)
class Turn:
    """A value; or, with a flight, the duty to compute it."""

    value: Any
    flight: Flight | None = None
    #: The front's key; None where the front cannot tell whether it is changed meanwhile.
    key: bytes | None = None
    #: Whether there is a lease in its cell; and if not, what else there was.
    lease: bool = False
    witness: bytes = b""
    #: When the namespace was last cleared, before anything was computed.
    cleared: int | None = None
    #: How far it came: there is a result; a write has taken the lease's place.
    computed: bool = False
    settled: bool = False
    #: What may be given instead where computing fails.
    stale: Any = MISSING


class _Waiting:
    """How much longer one caller waits for others."""

    def __init__(self, seconds: float | None) -> None:
        self._until = None if seconds is None else anyio.current_time() + seconds

    @property
    def left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - anyio.current_time())


class Computing:
    """`get_or_compute` of one key through one view. `grace` and `wait` are in seconds."""

    def __init__(
        self, view: View, name: str | bytes, ttl: float | None, grace: float | None, wait: float | None
    ) -> None:
        self._view = view
        self._name = name
        self._key = view.scope.key(name)
        self._ttl = ttl
        self._grace = grace
        self._wait = wait
        self._shared = view.shared
        self._looked = 0

    async def await_turn(self) -> Turn:
        """The value, from the tiers or from another's computation; or the caller's turn to compute it."""
        self._waiting = _Waiting(self._wait)
        flights = self._shared.flights
        while True:
            news = flights.news(self._key)
            value = await self._find()
            if value is not MISSING:
                return Turn(value)
            stale = await self._find_stale()
            flight, leading = flights.join(self._key)
            if leading:
                turn = await self._led(flight, self._lead(flight, stale)) if flights.news(self._key) == news else None
                if turn is None:
                    flights.end(flight, computed=False)
            elif stale is not MISSING:
                flights.leave(flight)
                return self._served_stale(stale)
            elif await flights.wait(flight, self._waiting.left):
                value = self._landed(flight)
                turn = None if value is MISSING else Turn(value)  # it was cancelled, or written by another codec
            else:
                alone = flights.lead(self._key)
                turn = await self._led(alone, self._go_alone(alone))
                if turn is None:
                    flights.end(alone, computed=False)
            if turn is not None:
                return turn

    async def _led(self, flight: Flight, turn: Awaitable[Turn | None]) -> Turn | None:
        """The turn; a flight that does not come of it ends."""
        try:
            found = await turn
        except BaseException:
            self._shared.flights.end(flight, computed=False)
            raise
        if found is not None and found.flight is not flight:
            self._shared.flights.end(flight, computed=False)
        return found

    @contextmanager
    def leading(self, turn: Turn) -> Generator[None]:
        """Round the computation. However it ends, nobody waits for it any longer."""
        flight = turn.flight
        assert flight is not None
        try:
            with computing(flight):
                yield
        except Exception as error:  # the others must not compute one after the other what fails
            flight.fail(error)
            raise
        finally:
            self._shared.flights.end(flight)
            if turn.lease and turn.key is not None:
                self._leases.drop(turn.key, settled=turn.settled)

    async def land(self, turn: Turn, value: Any) -> None:
        """Stores what was computed, unless something newer was. A store that does not take it fails nobody."""
        flight = turn.flight
        assert flight is not None
        turn.computed = True
        self._shared.recorder.add("computed")
        change = self._view.change(self._name, value, self._ttl)
        if self._grace is not None:
            change = change._replace(grace=milliseconds(self._grace))
        flight.succeed(change.envelope)
        if flight.overtaken or await self._overtaken_elsewhere(turn):
            self._shared.recorder.add("overtaken")
            return
        try:
            await self._shared.engine.write([change])
        except StoreUnavailableError:
            return  # counted and logged where it was raised
        turn.settled = True

    def instead(self, turn: Turn) -> Any:
        """What is given where computing failed: an expired value in its time of grace, or MISSING."""
        return MISSING if turn.computed or turn.stale is MISSING else self._served_stale(turn.stale).value

    @property
    def _leases(self) -> Leases:
        leases = self._shared.engine.leases
        assert leases is not None
        return leases

    async def _find(self) -> Any:
        """The value or MISSING. A store that is away is a miss to those who can do without it."""
        try:
            (value,) = await read_across([(self._view, self._key)])
        except StoreUnavailableError:
            return MISSING  # counted and logged where it was raised
        return value

    async def _find_stale(self) -> Any:
        if self._grace is None:
            return MISSING
        try:
            answer = await self._shared.engine.read_stale(self._key)
        except StoreUnavailableError:
            return MISSING
        return MISSING if answer is None else self._view.open(answer.envelope)

    def _served_stale(self, value: Any) -> Turn:
        self._shared.recorder.add("stale")
        return Turn(value)

    def _landed(self, flight: Flight) -> Any:
        flight.check()
        value = MISSING if flight.envelope is None else self._view.open(flight.envelope)
        if value is not MISSING:
            self._shared.recorder.add("joined")
        return value

    async def _lead(self, flight: Flight, stale: Any) -> Turn | None:
        """The turn of who leads in this process; None where the tiers are to be looked into once more."""
        engine = self._shared.engine
        turn = Turn(MISSING, flight, stale=stale)
        if engine.leases is None:
            return turn
        try:
            turn.key = await engine.front_key(self._key)
        except StoreUnavailableError:
            return turn
        found, waited = await self._await_lease(engine.leases, turn.key, patient=stale is MISSING)
        if found.cell is Cell.VALUE:
            self._looked += 1
            if self._looked < _LOOKS:  # else there is something that this view cannot read
                return None
        if found.cell is Cell.LEASED and stale is not MISSING:
            return self._served_stale(stale)
        return await self._prepared(turn, found, again=waited)

    async def _go_alone(self, flight: Flight) -> Turn | None:
        """The same for who does not wait for others any longer."""
        engine = self._shared.engine
        turn = Turn(MISSING, flight)
        if engine.leases is None:
            return turn
        try:
            turn.key = await engine.front_key(self._key)
        except StoreUnavailableError:
            return turn
        return await self._prepared(turn, await engine.leases.take(turn.key), again=True)

    async def _prepared(self, turn: Turn, found: Found, *, again: bool) -> Turn | None:
        """The turn, with what will tell whether somebody changed the key meanwhile.

        `again`: whoever had the lease may have stored what he computed, and the front may have lost it since.
        """
        assert turn.flight is not None
        assert turn.key is not None
        key, turn.lease, turn.witness = turn.key, found.cell is Cell.MINE, found.content
        value, keep = MISSING, False
        try:
            if again:
                value = await self._find()
            keep = value is MISSING and not turn.flight.overtaken
        finally:
            if turn.lease and not keep:
                self._leases.drop(key, settled=False)
        if not keep:
            return None if value is MISSING else Turn(value)
        if found.cell is Cell.UNKNOWN:
            turn.key = None
        turn.cleared = self._shared.engine.last_cleared(self._key.scope)
        return turn

    async def _await_lease(self, leases: Leases, key: bytes, *, patient: bool) -> tuple[Found, bool]:
        """What the cell holds in the end, and whether it was waited for."""
        found = await leases.take(key)
        if found.cell is Cell.LEASED:
            self._shared.recorder.add("waited")
        # Two processes that compute what the other needs would wait for each other for ever.
        longest = {Cell.LEASED: self._shared.lease_ttl if is_nested() else None, Cell.PASSING: _PASSING_SECONDS}
        pause = _FIRST_PAUSE
        before, since = Cell.MINE, 0.0
        while found.cell in longest:
            if found.cell is not before:
                before, since = found.cell, anyio.current_time()
            most = longest[found.cell]
            left = _least(self._waiting.left, None if most is None else since + most - anyio.current_time())
            if (left is not None and left <= 0) or not patient or patience.get() == "no one":
                break
            await anyio.sleep(_least(pause * random.uniform(0.5, 1), left) or 0)  # noqa: S311  (no secret)
            pause = min(2 * pause, _LONGEST_PAUSE)
            found = await leases.look(key)
            if found.cell is Cell.VALUE:
                found = await leases.take(key)
        return found, pause > _FIRST_PAUSE

    async def _overtaken_elsewhere(self, turn: Turn) -> bool:
        """Whether another process changed the key, or cleared its namespace, while it was computed."""
        if self._shared.engine.leases is None:
            return False
        if turn.key is not None:
            leases, key = self._leases, turn.key
            same = await (leases.is_mine(key) if turn.lease else leases.is_unchanged(key, turn.witness))
            if same is False:
                return True
        cleared = await self._shared.engine.cleared_at(self._key.scope)
        return cleared is not None and turn.cleared is not None and cleared > turn.cleared


def _least(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
