"""What this process changed without being able to tell the front: until somebody has, it does not believe the front."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from ._fork import forget_after_fork

_MOST: Final = 65_536


class Remembered(NamedTuple):
    """The doubts of one moment."""

    tickets: Mapping[bytes, int]
    last: int


class Doubts:
    """Digests of cells that may be older than the store, for any thread. Each time one is added it gets a new ticket.

    Beyond `most` of them, everything is doubtful.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        #: By digest. Looked into without a lock.
        self.tickets: dict[bytes, int] = {}
        self.everything: bool = False
        self._last = 0
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: what its parent doubts, it doubts as well."""
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self.everything or bool(self.tickets)

    def among(self, digests: Callable[[], Iterable[bytes]]) -> Collection[bytes] | None:
        """Those of them that are doubtful now; None where everything is."""
        if self.everything:
            return None
        return {digest for digest in digests() if digest in self.tickets} if self.tickets else ()

    def add(self, digests: Iterable[bytes]) -> Remembered:
        """Returns what to `settle` where it turns out that the front was told."""
        with self._lock:
            self._last += 1
            added = dict.fromkeys(digests, self._last)
            if len(self.tickets) + len(added) > self._most:
                self.everything = True
            else:
                self.tickets.update(added)
            return Remembered(added, 0)

    def now(self) -> Remembered:
        with self._lock:
            return Remembered(dict(self.tickets), self._last)

    def settle(self, remembered: Remembered) -> None:
        """Ends those doubts, but for what was added again since."""
        with self._lock:
            for digest, ticket in remembered.tickets.items():
                if self.tickets.get(digest) == ticket:
                    del self.tickets[digest]
            if self._last == remembered.last:
                self.everything = False
