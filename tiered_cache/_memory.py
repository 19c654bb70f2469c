"""The in-process front: one dictionary, for every loop and thread of the process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from ._fork import forget_after_fork
from ._rule import Held, Step, apply

MAX_BYTES: Final = 64 * 1024 * 1024

#: What a cell takes in memory beside the bytes of its key and of its content, measured on CPython.
OVERHEAD_BYTES: Final = 450

_SWEPT_PER_KEY: Final = 4


class Expiries:
    """Keys by the time at which they expire, in slots that are the wider the further off they are.

    A slot comes up when its time begins; what is in it and has not expired moves on to a narrower one. So keys come and
    go one at a time, at the same small cost however many there are, and nothing is left behind by those that went.
    Times are whole milliseconds of any clock that never goes back.
    """

    def __init__(self) -> None:
        self._slots: dict[tuple[int, int], set[bytes]] = {}
        self._starts: list[tuple[int, int]] = []  # a heap of the slots: when each begins, and the bits of its width

    def add(self, key: bytes, expires: int, now: int) -> set[bytes]:
        """Adds a key that expires after `now`; returns the slot, which is where to discard the key from."""
        bits = max(0, (expires - now).bit_length() - 4)  # an eighth of the time left, or less
        place = (expires >> bits << bits, bits)
        slot = self._slots.get(place)
        if slot is None:
            slot = self._slots[place] = set()
            heappush(self._starts, place)
        slot.add(key)
        return slot

    def due(self, now: int, at_most: int) -> Iterator[bytes]:
        """Takes out keys that may have expired, one by one. One that has not yet is to be added again."""
        while at_most > 0 and self._starts and self._starts[0][0] <= now:
            slot = self._slots[self._starts[0]]
            while slot and at_most > 0:
                at_most -= 1
                yield slot.pop()
            if not slot:
                del self._slots[heappop(self._starts)]


class _Cell(NamedTuple):
    content: bytes
    expires: int
    slot: set[bytes]


class MemoryFront:
    """A front that lives and dies with the process, and holds at most `max_bytes`.

    Beyond that the least recently used cells leave. Expired ones leave without being asked for: every call looks after
    a few of those that are due, and more than it adds. `clock` counts seconds and never goes back. A forked child
    starts with an empty front of its own, since it would not hear of what its parent changes.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self.forget()
        forget_after_fork(self)

    def __repr__(self) -> str:
        return f"MemoryFront({self._bytes} of {self._max_bytes} bytes)"

    @property
    def bytes_held(self) -> int:
        """What the cells take, with their keys and overhead. Never more than `max_bytes`."""
        return self._bytes

    def grow(self, max_bytes: int) -> None:
        """Raises the bound to `max_bytes`, if it is lower."""
        with self._lock:
            self._max_bytes = max(self._max_bytes, max_bytes)

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            now = self._sweep(len(keys))
            return [self._read(key, now) for key in keys]

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        with self._lock:
            now = self._sweep(len(steps))
            return [self._take(step, token, mark_ttl, now) for step in steps]

    async def aclose(self) -> None:
        """Empties it."""
        with self._lock:
            self._empty()

    def forget(self) -> None:
        """After a fork, in the child: the parent's lock may have been taken by a thread that does not exist here."""
        self._lock = threading.Lock()
        self._empty()

    # All that follows runs under the lock and awaits nothing.

    def _empty(self) -> None:
        self._cells: OrderedDict[bytes, _Cell] = OrderedDict()  # the least recently used first
        self._expiries = Expiries()
        self._bytes = 0

    def _sweep(self, keys: int) -> int:
        """Removes a few expired cells, in proportion to what a call may add; returns the time in milliseconds."""
        now = int(self._clock() * 1000)
        for key in self._expiries.due(now, _SWEPT_PER_KEY * (keys + 1)):
            cell = self._cells[key]
            if cell.expires <= now:
                self._drop(key)
            else:
                self._cells[key] = cell._replace(slot=self._expiries.add(key, cell.expires, now))
        return now

    def _read(self, key: bytes, now: int) -> bytes | None:
        cell = self._cells.get(key)
        if cell is None or cell.expires <= now:
            return None
        self._cells.move_to_end(key)
        return cell.content

    def _take(self, step: Step, token: bytes, mark_ttl: int, now: int) -> bool:
        cell = self._cells.get(step.key)
        before = None if cell is None or cell.expires <= now else Held(cell.content, cell.expires - now)
        after, done = apply(before, step, token, mark_ttl)
        if after is None:
            self._drop(step.key)
        elif after is not before:
            return self._put(step.key, after, now) and done
        return done

    def _put(self, key: bytes, held: Held, now: int) -> bool:
        self._drop(key)
        cost = _cost(key, held.cell)
        if cost > self._max_bytes:
            return False
        while self._bytes + cost > self._max_bytes:
            self._drop(next(iter(self._cells)))
        expires = now + held.left
        self._cells[key] = _Cell(held.cell, expires, self._expiries.add(key, expires, now))
        self._bytes += cost
        return True

    def _drop(self, key: bytes) -> None:
        cell = self._cells.pop(key, None)
        if cell is not None:
            cell.slot.discard(key)
            self._bytes -= _cost(key, cell.content)


def _cost(key: bytes, content: bytes) -> int:
    return len(key) + len(content) + OVERHEAD_BYTES
