"""Whose turn it is to compute: `get_or_compute`, among the callers of this process and among processes.

Here one flight leads and the others wait for it (`_flights`). Who leads takes a lease in the front (`_leases`); while
another process has it, he waits for what that one will have stored. Without a front, every process computes for itself.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio

from ._engine import Change
from ._errors import StoreUnavailableError, UnsupportedValueError
from ._flights import Flight, computing, is_nested, patience
from ._freshness import Freshness, not_cached
from ._leases import Cell, Found, Leases
from ._observe import NOBODY, Computation, Watch
from ._options import milliseconds
from ._stats import logger
from ._view import MISSING, Judge, View, everything_is_fresh, read_across

# How often somebody looks whether another process is done: soon at first, then at a rate that a thousand who wait do
# not trouble the front with.
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25

# A reader's or a writer's mark stands for a moment. One that stands for longer was left by somebody who died.
_PASSING_SECONDS: Final = 1.0

# What the lease is called where the cell of the key has a value in it that others go on using.
_BESIDE: Final = b"+"

# How often the tiers are looked into again where there is a value and the last look did not find one.
_LOOKS: Final = 3


@dataclass(slots=True)
class Turn:
    """A value; or, with a flight, the duty to compute it."""

    value: Any
    flight: Flight | None = None
    #: The front's key; None where the front cannot tell whether it is changed meanwhile.
    key: bytes | None = None
    #: The front's key of the cell that holds our lease, mostly the same; and what else there was in the key's own.
    lease: bytes | None = None
    witness: bytes = b""
    #: Where that tells nothing: the version of the row, before anything was computed; 0 for none.
    version: int | None = None
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
        self,
        view: View,
        name: str | bytes,
        ttl: float | None,
        grace: float | None,
        wait: float | None,
        wanted: Freshness | None = None,
    ) -> None:
        self._view = view
        self._name = name
        self._key = view.scope.key(name)
        self._ttl = ttl
        self._grace = grace
        self._wait = wait
        self._shared = view.shared
        self._looked = 0
        self._watch = NOBODY
        #: Why the tiers could not be looked into, the last time that they could not.
        self.unavailable: StoreUnavailableError | None = None
        self._wanted = wanted or Freshness()
        self._judge = None if wanted is None else self._judge_for(wanted)
        self._before: bytes | None = None

    def watched(self) -> Watch:
        """Round all of it: one operation, however often it looks."""
        self._watch = self._shared.observers.operation("get_or_compute", self._view.scope.path, 1)
        return self._watch

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
            if self._wanted.only_if_cached:
                return self._not_computed(stale)
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
            self.release(turn)

    def release(self, turn: Turn) -> None:
        """Ends the turn: nobody waits for it any longer. Does not block, on any thread."""
        flight = turn.flight
        assert flight is not None
        self._shared.flights.end(flight)
        if turn.lease is not None:
            self._leases.drop(turn.lease, settled=turn.settled and turn.lease == turn.key)

    def note(self, turn: Turn) -> None:
        """There is a result."""
        turn.computed = True
        self._count("computed")

    async def land(self, turn: Turn, value: Any, *, skip: bool = False) -> None:
        """Stores what was computed, unless something newer was. A store that does not take it fails nobody.

        With `skip`, it is given to those who wait and not stored.
        """
        flight = turn.flight
        assert flight is not None
        self.note(turn)
        try:
            change = self._view.change(self._name, value, self._ttl)
        except UnsupportedValueError:
            if skip:  # nobody can be given a copy: the others compute
                return
            raise
        if self._grace is not None:
            change = change._replace(grace=milliseconds(self._grace))
        if skip:
            flight.succeed(change.envelope)
            return
        with suppress(StoreUnavailableError):  # counted and logged where it was raised
            await self.publish(turn, [change])

    async def publish(self, turn: Turn, changes: Sequence[Change]) -> None:
        """Gives the result to those who wait; stores it unless something newer was. Raises StoreUnavailableError.

        The first change is the result. The others are stored with it, if it is.
        """
        flight = turn.flight
        assert flight is not None
        flight.succeed(changes[0].envelope)
        if flight.overtaken or await self._overtaken_elsewhere(turn):
            self._count("overtaken")
            return
        await self._shared.engine.write(changes)
        turn.settled = True

    def instead(self, turn: Turn) -> Any:
        """What is given where computing failed: an expired value in its time of grace, or MISSING."""
        return MISSING if turn.computed or turn.stale is MISSING else self._served_stale(turn.stale).value

    def _count(self, what: Computation) -> None:
        self._shared.recorder.add(what)
        self._watch.note(what)

    @property
    def _leases(self) -> Leases:
        leases = self._shared.engine.leases
        assert leases is not None
        return leases

    async def _find(self) -> Any:
        """The value or MISSING. A store that is away is a miss to those who can do without it."""
        try:
            (value,) = await read_across([(self._view, self._key)], self._watch, self._judge)
        except StoreUnavailableError as error:
            self.unavailable = error.with_traceback(None)
            return MISSING  # counted and logged where it was raised
        if self._before is None:
            self._before = b""
        return value

    def _judge_for(self, wanted: Freshness) -> Judge:
        return self._is_new if wanted.refresh else self._shared.judge(wanted) or everything_is_fresh

    def _is_new(self, envelope: bytes) -> bool:
        """Whether it was not there yet when it was asked for."""
        if self._before is None:
            self._before = envelope
        return envelope != self._before

    async def _find_stale(self) -> Any:
        if self._grace is None or self._wanted.refresh:
            return MISSING
        try:
            answer = await self._shared.engine.inquiries.read_stale(self._key)
        except StoreUnavailableError:
            return MISSING
        if answer is None or (self._judge is not None and not self._judge(answer.envelope)):
            return MISSING
        return self._view.open(answer.envelope)

    def _served_stale(self, value: Any) -> Turn:
        self._count("stale")
        return Turn(value)

    def _not_computed(self, stale: Any) -> Turn:
        if stale is MISSING:
            raise not_cached()
        return self._served_stale(stale)

    def _landed(self, flight: Flight) -> Any:
        flight.check()
        value = MISSING if flight.envelope is None else self._view.open(flight.envelope)
        if value is not MISSING:
            self._count("joined")
        return value

    async def _lead(self, flight: Flight, stale: Any) -> Turn | None:
        """The turn of who leads in this process; None where the tiers are to be looked into once more."""
        engine = self._shared.engine
        turn = Turn(MISSING, flight, stale=stale)
        if engine.leases is None:
            return turn
        try:
            turn.key = await engine.access.front_key(self._key)
        except StoreUnavailableError:
            return turn
        found, waited = await self._await_lease(engine.leases, turn.key, patient=stale is MISSING)
        if found.cell is Cell.VALUE and self._judge is not None:
            return await self._beside(turn)
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
            turn.key = await engine.access.front_key(self._key)
        except StoreUnavailableError:
            return turn
        found = await engine.leases.take(turn.key)
        if found.cell is Cell.VALUE and self._judge is not None:
            return await self._beside(turn)
        return await self._prepared(turn, found, again=True)

    async def _beside(self, turn: Turn) -> Turn | None:
        """The turn of who computes anew what others go on using meanwhile.

        His lease is in a cell of its own. The key's own may be evicted, or expire: it is the row that tells whether
        somebody changed the key.
        """
        assert turn.key is not None
        beside, turn.key = turn.key + _BESIDE, None
        found, _ = await self._await_lease(self._leases, beside, patient=True)
        turn.lease = beside if found.cell is Cell.MINE else None
        return await self._looked_again(turn, self._find_beside(turn))

    async def _find_beside(self, turn: Turn) -> Any:
        turn.version = await self._version()  # first: what is changed after it is found by it
        return await self._find()

    async def _version(self) -> int | None:
        """That of the row, expired or not; 0 where there is none, None where nobody can tell."""
        try:
            row = await self._shared.engine.inquiries.peek(self._key)
        except StoreUnavailableError:
            return None
        return 0 if row is None else row.version

    async def _prepared(self, turn: Turn, found: Found, *, again: bool) -> Turn | None:
        """The turn, with what will tell whether somebody changed the key meanwhile.

        `again`: whoever had the lease may have stored what he computed, and the front may have lost it since.
        """
        turn.lease, turn.witness = turn.key if found.cell is Cell.MINE else None, found.content
        if found.cell is Cell.UNKNOWN:
            turn.key = None
        return await self._looked_again(turn, self._find() if again else None)

    async def _looked_again(self, turn: Turn, look: Awaitable[Any] | None) -> Turn | None:
        """The turn, unless there is a value now, or news of the key."""
        assert turn.flight is not None
        value, keep = MISSING, False
        try:
            if look is not None:
                value = await look
            keep = value is MISSING and not turn.flight.overtaken
        finally:
            if turn.lease is not None and not keep:
                self._leases.drop(turn.lease, settled=False)
        if not keep:
            return None if value is MISSING else Turn(value)
        turn.cleared = self._shared.engine.inquiries.last_cleared(self._key.scope)
        return turn

    async def _await_lease(self, leases: Leases, key: bytes, *, patient: bool) -> tuple[Found, bool]:
        """What the cell holds in the end, and whether it was waited for."""
        found = await leases.take(key)
        if found.cell is Cell.LEASED:
            self._count("waited")
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
        if turn.version is not None and await self._version() not in (None, turn.version):
            return True
        if turn.key is not None:
            leases, key = self._leases, turn.key
            same = await (leases.is_mine(key) if turn.lease == key else leases.is_unchanged(key, turn.witness))
            if same is False:
                return True
        cleared = await self._shared.engine.inquiries.cleared_at(self._key.scope)
        return cleared is not None and turn.cleared is not None and cleared > turn.cleared


def is_skipped(skip: Callable[[Any], Any] | None, value: Any) -> bool:
    """Whether a result is not to be stored. Whatever `skip` raises costs nobody what was computed."""
    if skip is None:
        return False
    try:
        return bool(skip(value))
    except Exception as error:  # noqa: BLE001  (the user's function; its message may quote the value)
        logger.warning("skip raised %s: the result is returned and not stored", type(error).__name__)
        return True


def _least(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
