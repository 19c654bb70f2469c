"""What happened, in numbers. One lock, taken once for a whole batch."""

from __future__ import annotations

import logging
import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from ._breaker import State
from ._errors import ConfigurationError, FrontFailure
from ._fork import forget_after_fork
from ._keys import Path

logger: Final = logging.getLogger("tiered_cache")

Count = Literal[
    "hits_front",
    "hits_near",
    "hits_store",
    "misses",
    "promotions",
    "sets",
    "deletes",
    "clears",
    "computed",
    "joined",
    "waited",
    "overtaken",
    "stale",
    "corrupt",
    "unsupported",
    "skipped",
    "front_errors",
    "front_spared",
    "unmarked",
    "delivered",
    "store_errors",
    "store_spared",
    "adapter_errors",
    "reclaimed",
]
Timed = Literal[
    "front_read",
    "front_step",
    "store_read",
    "store_write",
    "store_delete",
    "store_clear",
    "store_journal",
    "store_peek",
    "store_now",
]

# Upper bounds in seconds, a fifth of a decade apart from 10 us to 100 s: enough to tell 1 ms from 2 ms.
_BOUNDS: Final = tuple(1e-5 * 10 ** (i / 5) for i in range(36))


@dataclass(frozen=True, slots=True)
class Latency:
    """How long exchanges with a tier took, in seconds; `total` is all of them together.

    Percentiles are upper bounds of buckets 58 % wide.
    """

    count: int
    p50: float
    p99: float
    max: float
    total: float


class Audited(NamedTuple):
    """Hits in the front that were looked at again, and how many of them were then not what the store held."""

    checked: int
    inconsistent: int

    @property
    def per_million(self) -> float:
        return 1e6 * self.inconsistent / self.checked if self.checked else 0.0


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in the currency of your choice: those of the prompt, and those of the answer.

    Raises ConfigurationError unless both are numbers, 0 or more.
    """

    input: float
    output: float

    def __post_init__(self) -> None:
        for each in (self.input, self.output):
            if type(each) not in (int, float) or not 0 <= each < math.inf:
                raise ConfigurationError(f"a price is a number for a million tokens, 0 or more, not {each!r}")

    def of(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Saved:
    """What the hits of one model's answers would have cost without the cache.

    Tokens are those that the answers said they had used, and 0 for answers that said nothing. `cost` is theirs at the
    price given for the model, None where none was; discounts for prompts that the provider had cached are not in it.
    """

    hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache did since it was made (or forked): counts of keys, not of calls, unless said otherwise."""

    #: Keys answered by the front; by the store; by neither.
    hits_front: int = 0
    #: Keys of which this process held what the front has (option `near_bytes`). They count as `hits_front` as well,
    #: which counts each of the callers who look for one key together.
    hits_near: int = 0
    hits_store: int = 0
    misses: int = 0
    #: Keys copied from the store to the front.
    promotions: int = 0
    sets: int = 0
    deletes: int = 0
    #: Namespaces cleared.
    clears: int = 0
    #: Values computed by `get_or_compute` (and, with `single_flight`, by the models of a LangChainCache, whose lookups
    #: then count as calls of it); calls of it that were given what another call in this process computed; that
    #: waited for another process; whose result was not stored, since the key was changed meanwhile; that were given an
    #: expired value in its time of grace.
    computed: int = 0
    joined: int = 0
    waited: int = 0
    overtaken: int = 0
    stale: int = 0
    #: Cells, rows and payloads that could not be read. Each was a miss.
    corrupt: int = 0
    #: Values an adapter, or a function under `cached`, could not store since they would not have come out equal.
    unsupported: int = 0
    #: Answers that `should_cache` of an adapter did not want stored.
    skipped: int = 0
    #: Exchanges with the front that failed, and those that it was spared since it kept failing, or had left others
    #: without an answer while this one waited for its turn.
    front_errors: int = 0
    front_spared: int = 0
    #: Changed keys (and cleared namespaces) of which the front could not be told when it mattered; and those, of any
    #: process, of which this one told it later.
    unmarked: int = 0
    delivered: int = 0
    #: Exchanges with the store that failed; and those that it was spared: reads, since it had kept everybody waiting,
    #: and whatever had waited for its turn while the store answered nobody.
    store_errors: int = 0
    store_spared: int = 0
    #: Calls that an adapter answered with a miss, or dropped, instead of raising.
    adapter_errors: int = 0
    #: Expired and cleared rows removed from the store.
    reclaimed: int = 0
    #: `front_errors` by reason: refused, timeout, pool_wait, busy, protocol, other.
    front_failures: Mapping[str, int] = field(default_factory=dict[str, int])
    #: Whether a tier is asked: "closed" where it is, "open" where it is spared since it kept failing, "half_open" while
    #: one exchange finds out whether it is back. By kind of exchange: front_read, front_step, store_read.
    breakers: Mapping[str, State] = field(default_factory=dict[str, "State"])
    #: What the audit found (option `audit_share`), by the age of a hit in seconds when it was looked at again.
    audit: Mapping[float, Audited] = field(default_factory=dict[float, Audited])
    #: By kind of exchange: front_read, front_step; store_read, store_write, store_delete, store_clear, store_journal,
    #: store_peek (a key that is computed anew), store_now (the store's clock, for ages).
    latency: Mapping[str, Latency] = field(default_factory=dict[str, Latency])
    #: How many keys shared an exchange, on average, by the same kinds.
    batch_size: Mapping[str, float] = field(default_factory=dict[str, float])
    #: What hits of models' answers saved, by the namespace of the adapter and the name that the model gave itself
    #: ("unknown" where it gave none). Beyond 1024 such pairs, all others are one: `((), "others")`.
    saved: Mapping[tuple[Path, str], Saved] = field(default_factory=dict[tuple[Path, str], "Saved"])

    @property
    def hits(self) -> int:
        return self.hits_front + self.hits_store

    @property
    def hit_ratio(self) -> float:
        """The share of keys that were found; 0.0 before the first read."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


# Names of models come from data: more than a service has, and few enough to be kept.
MODELS_COUNTED: Final = 1024
_OTHERS: Final[tuple[Path, str]] = ((), "others")


@dataclass
class _Tally:
    """What becomes a `Saved`, while it is being counted."""

    hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


class Event(NamedTuple):
    """A change of state: whether a tier is asked (see `Stats.breakers`); for "store", whether it works."""

    tier: Literal["front_read", "front_step", "store_read", "store"]
    state: State | Literal["failing", "working"]


class Recorder:
    """Counts, for any thread, and passes on events."""

    def __init__(self, on_event: Callable[[Event], object] | None = None) -> None:
        self._on_event = on_event
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: counts anew."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._longest: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._keys: Counter[str] = Counter()
        self._saved: dict[tuple[Path, str], _Tally] = {}

    def add(self, count: Count, n: int = 1) -> None:
        if n:
            with self._lock:
                self._counts[count] += n

    def front_failed(self, failure: FrontFailure) -> None:
        with self._lock:
            self._counts["front_errors"] += 1
            self._failures[failure] += 1

    def entered(self, kind: Literal["front_read", "front_step", "store_read"], state: State) -> None:
        self.happened(Event(kind, state))

    def happened(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # a listener's defect must not fail whoever happened to ask the tier
            logger.exception("the listener for events failed")

    def timed(self, kind: Timed, seconds: float, keys: int) -> None:
        with self._lock:
            buckets = self._buckets.setdefault(kind, [0] * (len(_BOUNDS) + 1))
            buckets[bisect_left(_BOUNDS, seconds)] += 1
            self._longest[kind] = max(seconds, self._longest.get(kind, 0.0))
            self._seconds[kind] = seconds + self._seconds.get(kind, 0.0)
            self._keys[kind] += keys

    def saved(self, path: Path, model: str, input_tokens: int, output_tokens: int, cost: float | None) -> None:
        """A hit of a model's answer, and what making it again would have taken."""
        with self._lock:
            tally = self._saved.get((path, model))
            if tally is None:
                key = (path, model) if len(self._saved) < MODELS_COUNTED else _OTHERS
                tally = self._saved.setdefault(key, _Tally())
            tally.hits += 1
            tally.input_tokens += input_tokens
            tally.output_tokens += output_tokens
            if cost is not None:
                tally.cost = cost + (tally.cost or 0.0)

    def snapshot(
        self, audit: Mapping[float, Audited] | None = None, breakers: Mapping[str, State] | None = None
    ) -> Stats:
        with self._lock:
            latency = {kind: self._latency(kind, buckets) for kind, buckets in self._buckets.items()}
            batch_size = {kind: self._keys[kind] / latency[kind].count for kind in latency}
            return Stats(
                **self._counts,
                front_failures=dict(self._failures),
                breakers=dict(breakers or {}),
                audit=dict(audit or {}),
                latency=latency,
                batch_size=batch_size,
                saved={key: Saved(**vars(tally)) for key, tally in self._saved.items()},
            )

    def _latency(self, kind: str, buckets: list[int]) -> Latency:
        longest = self._longest[kind]
        p50, p99 = (_quantile(buckets, share, longest) for share in (0.5, 0.99))
        return Latency(sum(buckets), p50, p99, longest, self._seconds[kind])


def _quantile(buckets: list[int], share: float, longest: float) -> float:
    rank = share * sum(buckets)
    seen = 0
    for bound, n in zip(_BOUNDS, buckets, strict=False):
        seen += n
        if seen >= rank:
            return min(bound, longest)
    return longest
