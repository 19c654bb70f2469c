"""Single flight across processes: who computes the value of a key holds a lease in the front.

The lease is a reader's mark in the very cell of the key, renewed for as long as the computation takes. So by the rule
it is everything that it has to be: nobody else can take it, whoever changes the key replaces it (and the holder finds
out, and does not store what is older than that change), it expires by itself where its holder dies, and it is gone
where the front loses it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, wait
from enum import Enum
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread

from . import _portal as portal
from ._batch import Batcher, Limits, Reply
from ._cells import READER, TOKEN_BYTES, is_mark
from ._fork import forget_after_fork
from ._guard import GuardedFront
from ._options import Options, milliseconds
from ._rule import MARK_READ, SETTLE_READ, Step

#: Begins the tokens of leases: other marks are those of somebody who is only passing, or who died.
_LEASE: Final = b"lease"

_RENEWALS: Final = 3

_GONE_IN_A_ROW: Final = 2


class Cell(Enum):
    """What there is in the cell of a key to be computed."""

    MINE = "my lease"
    LEASED = "the lease of somebody else"
    PASSING = "the mark of somebody between the tiers"
    VALUE = "a value, or nothing yet"
    UNKNOWN = "the front does not answer"


class Found(NamedTuple):
    """A cell as it was found, and what is in it where it is not mine."""

    cell: Cell
    content: bytes = b""


_UNKNOWN: Final = Found(Cell.UNKNOWN)
_MINE: Final = Found(Cell.MINE)


class Leases:
    """The leases that this process holds. For any loop and any thread; callers of one loop share exchanges."""

    def __init__(self, front: GuardedFront, options: Options) -> None:
        self._front = front
        self._ttl = milliseconds(options.lease_ttl)
        self._pause = options.lease_ttl / _RENEWALS
        self._patience = 2 * options.front_timeout
        limits = Limits(options.batch_items, options.batch_bytes, options.batches_in_flight)
        self._taking: Batcher[bytes, bool | None] = Batcher(self._take_all, limits, binding=True)
        self._renewing: Batcher[bytes, bool | None] = Batcher(self._renew_all, limits)
        self._leaving: Batcher[bytes, bool | None] = Batcher(self._leave_all, limits)
        self._looking: Batcher[bytes, Found] = Batcher(self._look_at_all, limits, eager=True)
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: the leases are the parent's."""
        self._lock = threading.Lock()
        self._token = _LEASE + os.urandom(TOKEN_BYTES - len(_LEASE))
        self._held: dict[bytes, int] = {}  # by key of the front: how many computations
        self._written: set[bytes] = set()  # of those, what one computation has stored while others still computed
        self._leavers: set[bytes] = set()
        self._under_way: set[Future[None]] = set()  # those who take leases away
        self._gone = 0  # leases in a row that had left nothing behind
        self._beats = False

    async def take(self, key: bytes) -> Found:
        """Takes the lease where nobody is in between. Whoever is told that it is his must `drop` it."""
        if key in self._leavers:  # it would be taken away with the one before
            return Found(Cell.PASSING)
        try:
            (taken,) = await self._taking.ask([key])
        except BaseException:  # cancelled: it may stand all the same
            self._leave_soon(key)
            raise
        if taken is None:
            return _UNKNOWN
        if not taken:
            return await self.look(key)
        self._hold(key)
        return _MINE

    async def look(self, key: bytes) -> Found:
        (found,) = await self._looking.ask([key])
        return found

    async def is_unchanged(self, key: bytes, witness: bytes) -> bool | None:
        """Whether a cell is what it was when somebody found it; None where that cannot be told."""
        found = await self.look(key)
        return None if found is _UNKNOWN else found.content == witness

    async def is_mine(self, key: bytes) -> bool | None:
        """Whether nobody has changed the key since; None where that cannot be told.

        A cell that is empty may have been evicted, or the key was deleted. That is taken for a change; but where it
        happens again and again, the front keeps nothing for long, and nobody can tell anything by it.
        """
        if key in self._written:
            return None
        (renewed,) = await self._renewing.ask([key])
        if renewed is not False:
            self._gone = 0
            return renewed
        found = await self.look(key)
        if found is _UNKNOWN or found.content:
            return None if found is _UNKNOWN else False
        self._gone += 1
        return None if self._gone > _GONE_IN_A_ROW else False

    def drop(self, key: bytes, *, settled: bool) -> None:
        """Ends one computation; unless `settled`, by a write of the key, the lease leaves the cell as well, soon."""
        with self._lock:
            left = self._held.pop(key, 1) - 1
            if left > 0:
                self._held[key] = left
                if settled:
                    self._written.add(key)
            else:
                self._written.discard(key)
        if left <= 0 and not settled:
            self._leave_soon(key)

    async def aclose(self) -> None:
        """Returns when those leases have left that are about to: what that takes is going to be closed."""
        if self._under_way:
            await anyio.to_thread.run_sync(wait, list(self._under_way), self._patience)

    def _leave_soon(self, key: bytes) -> None:
        with self._lock:
            if key in self._held:  # by another computation here
                return
            self._leavers.add(key)
        leaving = _submitted(self._leave, key)
        if leaving is None:
            self._leavers.discard(key)  # it expires
        else:
            self._under_way.add(leaving)
            leaving.add_done_callback(self._under_way.discard)

    async def _leave(self, key: bytes) -> None:
        try:
            await self._leaving.ask([key])
        finally:
            self._leavers.discard(key)

    def _hold(self, key: bytes) -> None:
        with self._lock:
            self._held[key] = self._held.get(key, 0) + 1
            if self._beats:
                return
            self._beats = True
        # In a thread of its own: a computation may hold up the loop that it runs on.
        if _submitted(self._beat) is None:
            self._beats = False

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(self._pause)
            with self._lock:
                keys = list(self._held)
                if not keys:
                    self._beats = False
                    return
            await self._renewing.ask(keys)

    async def _take_all(self, keys: Sequence[bytes], reply: Reply[bool | None]) -> None:
        await self._step(keys, reply, lambda key: Step(MARK_READ, key), self._ttl)

    async def _renew_all(self, keys: Sequence[bytes], reply: Reply[bool | None]) -> None:
        # A settle that puts the mark itself: it gets its way where the mark still stands, and only there.
        mark = READER + self._token
        await self._step(keys, reply, lambda key: Step(SETTLE_READ, key, mark, self._ttl), 1)

    async def _leave_all(self, keys: Sequence[bytes], reply: Reply[bool | None]) -> None:
        await self._step(keys, reply, lambda key: Step(SETTLE_READ, key), 1)

    async def _step(
        self, keys: Sequence[bytes], reply: Reply[bool | None], step: Callable[[bytes], Step], mark_ttl: int
    ) -> None:
        each = list(dict.fromkeys(keys))
        done = await self._front.apply([step(key) for key in each], self._token, mark_ttl)
        by_key = dict(zip(each, done or (), strict=False))
        reply([by_key.get(key) for key in keys])

    async def _look_at_all(self, keys: Sequence[bytes], reply: Reply[Found]) -> None:
        each = list(dict.fromkeys(keys))
        cells = await self._front.get(each)
        by_key = {key: _found(cell or b"") for key, cell in zip(each, cells or (), strict=False)}
        reply([by_key.get(key, _UNKNOWN) for key in keys])


def _found(content: bytes) -> Found:
    if not is_mark(content):
        return Found(Cell.VALUE, content)
    return Found(Cell.LEASED if is_lease(content) else Cell.PASSING, content)


def is_lease(cell: bytes) -> bool:
    return is_mark(cell) and cell.startswith(READER + _LEASE)


def _submitted(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Future[None] | None:
    try:
        return portal.submit(work, *args)
    except RuntimeError:  # no thread can be started just now
        return None
