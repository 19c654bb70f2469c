"""Cells of a shared front that are held in this process, for as long as it is told which of them change.

Without any input or output. Whoever asks the front takes down a `Reading` first. What it brings is kept unless its key
was said to have changed since: the answer may have been given before the change, and come after the news of it.

Nothing is answered unless somebody has `confirmed`, no longer ago than `staleness`, that all news up to then was here:
so however that news came to be late or lost, an answer is older than no change that is older than that.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ._clock import elapsed
from ._fork import forget_after_fork

#: What a cell takes in memory beside the bytes of its key and of its content, measured on CPython.
OVERHEAD_BYTES: Final = 300


class _Held(NamedTuple):
    cell: bytes
    expires: float


class Reading:
    """A question to the front that is under way, and what changed since it was begun."""

    __slots__ = ("begun", "changed", "everything")

    def __init__(self, begun: float, *, everything: bool) -> None:
        self.begun = begun
        self.changed: set[bytes] = set()
        self.everything = everything


class Shelf:
    """At most `max_bytes` of cells, the least recently used leaving first; for any thread.

    `staleness` and what `clock` counts are in seconds. A forked child begins with an empty one that nobody has
    confirmed.
    """

    def __init__(self, max_bytes: int, staleness: float, clock: Callable[[], float] = elapsed) -> None:
        self._max_bytes = max_bytes
        self._staleness = staleness
        self.clock: Final = clock
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: the parent's lock may have been taken by a thread that does not exist here."""
        self._lock = threading.Lock()
        self._readings: set[Reading] = set()
        self._empty()

    @property
    def bytes_held(self) -> int:
        """What the cells take, with their keys and overhead. Never more than `max_bytes`."""
        return self._bytes

    @property
    def fresh(self) -> bool:
        """Whether what is held may be answered."""
        return self.clock() < self._fresh_until

    def answer(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """The cells that are held, in the order of `keys`; None where nothing may be answered."""
        with self._lock:
            now = self.clock()
            return [self._read(key, now) for key in keys] if now < self._fresh_until else None

    def begin(self) -> Reading:
        """Before the front is asked. Whoever begins a reading must `end` it."""
        with self._lock:
            # Begun while nobody tells, it may miss what changes before somebody does again.
            reading = Reading(self.clock(), everything=self._fresh_until == -math.inf)
            self._readings.add(reading)
        return reading

    def end(self, reading: Reading) -> None:
        with self._lock:
            self._readings.discard(reading)

    def keep(self, reading: Reading, cells: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Keeps what the reading brought, key, cell and the milliseconds left to it, but for what changed since."""
        with self._lock:
            if reading.everything:
                return
            for key, cell, left in cells:
                if left > 0 and key not in reading.changed:
                    # Counted from before the front was asked: it does not outlive the cell there.
                    self._put(key, _Held(cell, reading.begun + left / 1000))

    def change(self, keys: Sequence[bytes]) -> None:
        """These keys may hold something else now."""
        with self._lock:
            for reading in self._readings:
                reading.changed.update(keys)
            for key in keys:
                self._drop(key)

    def flush(self) -> None:
        """All keys may hold something else now."""
        with self._lock:
            fresh_until = self._fresh_until
            self._empty()
            self._fresh_until = fresh_until

    def doubt(self) -> None:
        """Nobody tells any more what changes: nothing is kept, nor answered, until it is confirmed anew."""
        with self._lock:
            self._empty()

    def confirm(self, moment: float) -> None:
        """By `clock`: all that changed before it has been said, and everything since `doubt` that was to be said."""
        with self._lock:
            self._fresh_until = moment + self._staleness

    # All that follows runs under the lock.

    def _empty(self) -> None:
        for reading in self._readings:
            reading.everything = True
        self._cells: OrderedDict[bytes, _Held] = OrderedDict()  # the least recently used first
        self._bytes = 0
        self._fresh_until = -math.inf

    def _read(self, key: bytes, now: float) -> bytes | None:
        held = self._cells.get(key)
        if held is None:
            return None
        if held.expires <= now:
            self._drop(key)
            return None
        self._cells.move_to_end(key)
        return held.cell

    def _put(self, key: bytes, held: _Held) -> None:
        self._drop(key)
        cost = _cost(key, held.cell)
        if cost > self._max_bytes:
            return
        while self._bytes + cost > self._max_bytes:
            self._drop(next(iter(self._cells)))
        self._cells[key] = held
        self._bytes += cost

    def _drop(self, key: bytes) -> None:
        held = self._cells.pop(key, None)
        if held is not None:
            self._bytes -= _cost(key, held.cell)


def _cost(key: bytes, cell: bytes) -> int:
    return len(key) + len(cell) + OVERHEAD_BYTES
