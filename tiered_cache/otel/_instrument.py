"""What users call."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import metrics, trace

from tiered_cache._cache import TieredCache
from tiered_cache._keys import Path

from ._counters import instruments_of
from ._names import NAMESPACE, SCOPE, SYSTEM
from ._spans import Spans


def instrument(
    cache: TieredCache,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    name: str = "tiered_cache",
    collection: Callable[[Path], str | None] | None = None,
) -> Callable[[], None]:
    """Records spans and metrics of all that is asked of `cache`, through the adapters too; returns what ends it.

    Providers are the global ones where not given: set the global meter provider before you call this. `name` becomes
    `db.namespace`: it tells the caches of a service apart; the counters of those with the same name are added up. A
    cache that is instrumented twice with the same arguments is recorded once, until both are undone.

    Counters never fall: they keep what a cache had counted when this was undone, or, if the cache was just let go of,
    when it was last collected. So undo it before you let go of a cache that does not live long.

    No key, no value and no message of an error is recorded: `error.type` is the name of the error's class, or
    "cancelled". Nor is the path of a namespace, of which there may be one for every tenant and, below the LangChain
    adapter, one for all settings of each model. `collection` is given the path and returns what is to be recorded as
    `db.collection.name`, or None: `"|".join` for all of it, `lambda path: path[0] if path else None` for its beginning.

    A span for each operation, the parent of what is computed in a `get_or_compute`: `db.operation.name`,
    `tiered_cache.keys`, `tiered_cache.hits.front`, `tiered_cache.hits.store`, `tiered_cache.misses` and, where there
    was no value, `tiered_cache.computation` (see `Operation`).

    The histogram `db.client.operation.duration` of the same, in seconds. For reads `tiered_cache.tier` says where what
    was found had been: "front", "store" (for one key at least), or "none" (for one key at least).

    And what `cache.stats()` counts: `tiered_cache.lookups` of keys by `tiered_cache.tier`; `tiered_cache.exchanges`
    with the tiers, `tiered_cache.exchange.time` and `tiered_cache.exchange.keys` by `tiered_cache.exchange.kind`, which
    give the mean latency and size of a batch; `tiered_cache.exchange.errors` and `tiered_cache.exchange.spared` by
    tier; `tiered_cache.breaker.status`, 1 for the `tiered_cache.breaker.state` of each breaker and 0 for the others;
    and every other counter under its own name, as `tiered_cache.promotions`.
    """
    instruments = instruments_of(meter_provider)
    spans = Spans(tracer_provider, instruments.duration, {SYSTEM: SCOPE, NAMESPACE: name}, collection)
    uncount = instruments.count(cache, name)
    unobserve = instruments.observe(cache, spans)

    def undo() -> None:
        unobserve()
        uncount()

    return undo
