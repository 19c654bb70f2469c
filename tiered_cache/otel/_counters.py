"""The instruments of a meter provider; above all, observable counters of what `stats()` counts."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from typing import Final, get_args
from weakref import WeakKeyDictionary, WeakSet, ref

from opentelemetry import metrics

from tiered_cache._breaker import State
from tiered_cache._cache import TieredCache
from tiered_cache._fork import forget_after_fork
from tiered_cache._stats import Stats

from ._names import BOUNDS, DURATION, ERROR, KIND, NAMESPACE, SCHEMA, SCOPE, TIER, Attributes, scope_version
from ._spans import Spans

Counts = Iterable[tuple[float, Attributes]]
Totals = Counter[tuple[tuple[str, str], ...]]

# Those counters of `Stats` that are told apart by an attribute; the others have an instrument each.
_BY_ATTRIBUTE: Final = frozenset(
    {"hits_front", "hits_store", "misses", "front_errors", "front_spared", "store_errors", "store_spared"}
)
_UNITS: Final = {
    **dict.fromkeys(("hits_near", "promotions", "sets", "deletes", "unmarked", "delivered"), "{key}"),
    **dict.fromkeys(("computed", "joined", "waited", "overtaken", "stale", "adapter_errors"), "{call}"),
    **dict.fromkeys(("corrupt", "unsupported", "skipped"), "{value}"),
    "clears": "{namespace}",
    "reclaimed": "{row}",
}


def _lookups(stats: Stats) -> Counts:
    yield stats.hits_front, {TIER: "front"}
    yield stats.hits_store, {TIER: "store"}
    yield stats.misses, {TIER: "none"}


def _errors(stats: Stats) -> Counts:
    for reason, n in stats.front_failures.items():
        yield n, {TIER: "front", ERROR: reason}
    yield stats.store_errors, {TIER: "store"}


def _spared(stats: Stats) -> Counts:
    yield stats.front_spared, {TIER: "front"}
    yield stats.store_spared, {TIER: "store"}


def _exchanges(stats: Stats) -> Counts:
    return [(latency.count, {KIND: kind}) for kind, latency in stats.latency.items()]


def _time(stats: Stats) -> Counts:
    return [(latency.total, {KIND: kind}) for kind, latency in stats.latency.items()]


def _keys(stats: Stats) -> Counts:
    return [(round(stats.batch_size[kind] * latency.count), {KIND: kind}) for kind, latency in stats.latency.items()]


def _breakers(stats: Stats) -> Counts:
    for kind, now in stats.breakers.items():
        for state in get_args(State):
            yield int(state == now), {KIND: kind, "tiered_cache.breaker.state": state}


def _plain(name: str, stats: Stats) -> Counts:
    yield getattr(stats, name), {}


class _Account:
    """What one cache has counted under one name."""

    def __init__(self) -> None:
        #: Calls of `instrument` that were not undone.
        self.users = 0
        #: By instrument: what was reported last, or when it was undone.
        self.last: dict[str, Totals] = {}


class Instruments:
    """Those of one meter provider, which hears no second one of the same name: so all its caches share them."""

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        self._counters: dict[str, Callable[[Stats], Counts]] = {}
        self._accounts: dict[tuple[ref[TieredCache], str], _Account] = {}
        self._spans: WeakKeyDictionary[TieredCache, WeakSet[Spans]] = WeakKeyDictionary()
        self.forget()
        forget_after_fork(self)
        meter = metrics.get_meter(SCOPE, scope_version(), provider, SCHEMA)
        self.duration: Final = meter.create_histogram(
            DURATION, "s", "Duration of database client operations.", explicit_bucket_boundaries_advisory=BOUNDS
        )
        for name, unit, what, counts in (
            ("lookups", "{key}", "Keys looked up, by the tier that had them.", _lookups),
            ("exchanges", "{exchange}", "Exchanges with the tiers.", _exchanges),
            ("exchange.time", "s", "How long exchanges with the tiers took, all together.", _time),
            ("exchange.keys", "{key}", "Keys that those exchanges carried.", _keys),
            ("exchange.errors", "{error}", "Exchanges that failed.", _errors),
            ("exchange.spared", "{exchange}", "Exchanges that a failing tier was spared.", _spared),
            *((field, unit, f"{field} in stats().", partial(_plain, field)) for field, unit in _plain_counters()),
        ):
            self._counters[name] = counts
            meter.create_observable_counter(f"tiered_cache.{name}", [partial(self._observe, name)], unit, what)
        meter.create_observable_up_down_counter(
            "tiered_cache.breaker.status",
            [self._observe_breakers],
            "1",
            "1 for the state that a breaker is in, 0 for the others.",
        )

    def forget(self) -> None:
        """After a fork, in the child: caches count anew there."""
        self._lock = threading.RLock()  # a cache may end, and be undone, while this thread holds it
        for account in self._accounts.values():
            account.last.clear()
        #: By instrument, what caches that nobody has any more had counted, added up for each name: no total may fall.
        self._bank: defaultdict[str, Totals] = defaultdict(Counter)

    def count(self, cache: TieredCache, name: str) -> Callable[[], None]:
        """Returns what ends it. Does not keep a cache that nobody else has; counts one once under a name."""
        held = ref(cache)
        with self._lock:
            self._settle()  # here too: perhaps nobody ever observes
            account = self._accounts.setdefault((held, name), _Account())
            account.users += 1
        counted = True

        def uncount() -> None:
            nonlocal counted
            with self._lock:
                if not counted:
                    return
                counted = False
                account.users -= 1
                cache = held()
                if not account.users and cache is not None:
                    stats = cache.stats()
                    account.last = {each: _totals(name, counts(stats)) for each, counts in self._counters.items()}

        return uncount

    def observe(self, cache: TieredCache, spans: Spans) -> Callable[[], None]:
        """Has `spans` told, unless the same are told already; returns what ends it."""
        with self._lock:
            told = self._spans.setdefault(cache, WeakSet())
            spans = next((each for each in told if each.users and each.same_as(spans)), spans)
            if not spans.users:
                spans.unobserve = cache.observe(spans)
                told.add(spans)
            spans.users += 1
        observed = True

        def unobserve() -> None:
            nonlocal observed
            with self._lock:
                if observed:
                    observed = False
                    spans.users -= 1
                    if not spans.users:
                        spans.unobserve()

        return unobserve

    def _settle(self) -> None:
        for key in tuple(self._accounts):
            if key[0]() is None:
                for counter, totals in self._accounts.pop(key).last.items():
                    self._bank[counter].update(totals)

    def _observe(self, counter: str, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        with self._lock:
            self._settle()
            totals = self._bank[counter].copy()
            for (held, name), account in tuple(self._accounts.items()):
                cache = held()
                if account.users and cache is not None:
                    account.last[counter] = _totals(name, self._counters[counter](cache.stats()))
                totals.update(account.last.get(counter, {}))
        return _observations(totals)

    def _observe_breakers(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        totals: Totals = Counter()
        with self._lock:
            for (held, name), account in tuple(self._accounts.items()):
                cache = held()
                if account.users and cache is not None:
                    totals.update(_totals(name, _breakers(cache.stats())))
        return _observations(totals)


def _totals(name: str, counts: Counts) -> Totals:
    return Counter({tuple(sorted({NAMESPACE: name, **attributes}.items())): n for n, attributes in counts})


def _observations(totals: Totals) -> list[metrics.Observation]:
    return [metrics.Observation(n, dict(attributes)) for attributes, n in totals.items()]


def _plain_counters() -> list[tuple[str, str]]:
    names = [field.name for field in fields(Stats) if type(field.default) is int and field.name not in _BY_ATTRIBUTE]
    return [(name, _UNITS.get(name, "{event}")) for name in names]


_lock = threading.Lock()
_of_provider: WeakKeyDictionary[metrics.MeterProvider, Instruments] = WeakKeyDictionary()
_of_global: Instruments | None = None


def instruments_of(provider: metrics.MeterProvider | None) -> Instruments:
    global _of_global
    with _lock:
        current = metrics.get_meter_provider()
        if provider is None and current in _of_provider:  # given to somebody before it became the global one
            return _of_provider[current]
        if provider is None or (provider is current and provider not in _of_provider):
            _of_global = _of_global or Instruments(None)  # whether the global one is set before or after this
            return _of_global
        if provider not in _of_provider:
            _of_provider[provider] = Instruments(provider)
        return _of_provider[provider]
