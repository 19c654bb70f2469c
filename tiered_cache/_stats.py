"""What happened, in numbers. One lock, taken once for a whole batch."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ._fork import forget_after_fork

Count = Literal[
    "hits_front",
    "hits_store",
    "misses",
    "promotions",
    "sets",
    "deletes",
    "clears",
    "computed",
    "joined",
    "corrupt",
    "unsupported",
    "front_errors",
    "unmarked",
    "store_errors",
    "adapter_errors",
    "reclaimed",
]
Timed = Literal["front_read", "front_step", "store_read", "store_write", "store_delete", "store_clear"]

# Upper bounds in seconds, a fifth of a decade apart from 10 us to 100 s: enough to tell 1 ms from 2 ms.
_BOUNDS: Final = tuple(1e-5 * 10 ** (i / 5) for i in range(36))


@dataclass(frozen=True, slots=True)
class Latency:
    """How long exchanges with a tier took. Percentiles, in seconds, are upper bounds of buckets 58 % wide."""

    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache did since it was made (or forked): counts of keys, not of calls, unless said otherwise."""

    #: Keys answered by the front; by the store; by neither.
    hits_front: int = 0
    hits_store: int = 0
    misses: int = 0
    #: Keys copied from the store to the front.
    promotions: int = 0
    sets: int = 0
    deletes: int = 0
    #: Namespaces cleared.
    clears: int = 0
    #: Values computed by `get_or_compute`; calls of it that were given what another call computed.
    computed: int = 0
    joined: int = 0
    #: Cells, rows and payloads that could not be read. Each was a miss.
    corrupt: int = 0
    #: Values an adapter could not store since they would not have come out equal.
    unsupported: int = 0
    #: Exchanges with the front that failed; those of them that left a change unannounced to other processes.
    front_errors: int = 0
    unmarked: int = 0
    #: Exchanges with the store that failed.
    store_errors: int = 0
    #: Calls that an adapter answered with a miss, or dropped, instead of raising.
    adapter_errors: int = 0
    #: Expired and cleared rows removed from the store.
    reclaimed: int = 0
    #: By kind of exchange: front_read, front_step, store_read, store_write, store_delete, store_clear.
    latency: Mapping[str, Latency] = field(default_factory=dict[str, Latency])
    #: How many keys shared an exchange, on average, by the same kinds.
    batch_size: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def hits(self) -> int:
        return self.hits_front + self.hits_store

    @property
    def hit_ratio(self) -> float:
        """The share of keys that were found; 0.0 before the first read."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class Recorder:
    """Counts, for any thread."""

    def __init__(self) -> None:
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: counts anew."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._longest: dict[str, float] = {}
        self._keys: Counter[str] = Counter()

    def add(self, count: Count, n: int = 1) -> None:
        if n:
            with self._lock:
                self._counts[count] += n

    def timed(self, kind: Timed, seconds: float, keys: int) -> None:
        with self._lock:
            buckets = self._buckets.setdefault(kind, [0] * (len(_BOUNDS) + 1))
            buckets[bisect_left(_BOUNDS, seconds)] += 1
            self._longest[kind] = max(seconds, self._longest.get(kind, 0.0))
            self._keys[kind] += keys

    def snapshot(self) -> Stats:
        with self._lock:
            latency = {kind: self._latency(kind, buckets) for kind, buckets in self._buckets.items()}
            batch_size = {kind: self._keys[kind] / latency[kind].count for kind in latency}
            return Stats(**self._counts, latency=latency, batch_size=batch_size)

    def _latency(self, kind: str, buckets: list[int]) -> Latency:
        longest = self._longest[kind]
        return Latency(sum(buckets), _quantile(buckets, 0.5, longest), _quantile(buckets, 0.99, longest), longest)


def _quantile(buckets: list[int], share: float, longest: float) -> float:
    rank = share * sum(buckets)
    seen = 0
    for bound, n in zip(_BOUNDS, buckets, strict=False):
        seen += n
        if seen >= rank:
            return min(bound, longest)
    return longest
