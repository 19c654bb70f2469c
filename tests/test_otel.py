"""OpenTelemetry, with its own SDK: spans where they belong, counters as `stats()` has them, and nothing secret."""

from __future__ import annotations

import gc
from collections.abc import Generator
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, cast
from weakref import ref

import anyio
import anyio.to_thread
import pytest
from langchain_core.outputs import Generation
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from tests.doubles import Computation, DictStore
from tests.worlds import World
from tiered_cache import MemoryFront, Namespace, StoreUnavailableError, TieredCache
from tiered_cache._stats import Stats
from tiered_cache.langchain import LangChainCache
from tiered_cache.otel import instrument
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._gates import PATIENCE_SECONDS

DURATION = "db.client.operation.duration"


class Telemetry:
    """An SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracers.get_tracer("tests")
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.instrument = partial(instrument, tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in the order in which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return [
            point
            for scope in scopes
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def values(self, name: str, attribute: str | None = None) -> dict[Any, Any]:
        return {attribute and point.attributes.get(attribute): point.value for point in self.points(name)}

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def telemetry() -> Generator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.close()


class Service(NamedTuple):
    cache: TieredCache
    front: FaultyFront
    store: FaultyStore


@pytest.fixture
def service(telemetry: Telemetry) -> Service:
    front, store = FaultyFront(MemoryFront()), FaultyStore(DictStore())
    cache = TieredCache(front, store, front_timeout=PATIENCE_SECONDS)
    telemetry.instrument(cache)
    return Service(cache, front, store)


def parents(spans: list[ReadableSpan]) -> list[tuple[str, str | None]]:
    names = {context.span_id: span.name for span in spans if (context := span.get_span_context()) is not None}
    return [(span.name, None if span.parent is None else names[span.parent.span_id]) for span in spans]


# --- spans ------------------------------------------------------------------------------------------------------------


async def use(space: Namespace, tracer: trace.Tracer) -> None:
    async def compute() -> int:
        with tracer.start_as_current_span("model"):
            await space.get("inner")
        return 1

    await space.set("k", 1)
    await space.get("k")
    await space.get_or_compute("c", compute)


def use_synchronously(space: Namespace, tracer: trace.Tracer) -> None:
    def compute() -> int:
        with tracer.start_as_current_span("model"):
            space.sync.get("inner")
        return 1

    space.sync.set("k", 1)
    space.sync.get("k")
    space.sync.get_or_compute("c", compute)


@pytest.mark.parametrize("how", ["async", "on a thread", "in a running loop"])
async def test_the_callers_span_is_the_parent_and_the_computation_a_child(
    telemetry: Telemetry, world: World, how: str
) -> None:
    cache = TieredCache(world.front, world.store, front_timeout=PATIENCE_SECONDS)
    telemetry.instrument(cache)
    with telemetry.tracer.start_as_current_span("request") as request:
        match how:
            case "async":
                await use(cache, telemetry.tracer)
            case "on a thread":
                await anyio.to_thread.run_sync(use_synchronously, cache, telemetry.tracer)
            case _:
                use_synchronously(cache, telemetry.tracer)
        assert trace.get_current_span() is request
    await cache.aclose()
    assert parents(telemetry.spans) == [
        ("request", None),
        ("set tiered_cache", "request"),
        ("get tiered_cache", "request"),
        ("get_or_compute tiered_cache", "request"),
        ("model", "get_or_compute tiered_cache"),
        ("get tiered_cache", "model"),
    ]


async def test_of_64_callers_who_share_a_batch_each_has_its_own_span(telemetry: Telemetry, service: Service) -> None:
    async def request(n: int) -> None:
        with telemetry.tracer.start_as_current_span(f"request {n}"):
            await service.cache.get(f"k{n}")

    async with anyio.create_task_group() as tasks:
        for n in range(64):
            tasks.start_soon(request, n)
    pairs = [(name, parent) for name, parent in parents(telemetry.spans) if parent]
    assert sorted(pairs) == sorted(("get tiered_cache", f"request {n}") for n in range(64))
    assert service.store.count("read") < 64
    (point,) = telemetry.points(DURATION)
    assert point.count == 64


async def test_a_span_says_what_became_of_the_operation(telemetry: Telemetry, service: Service) -> None:
    await service.cache.set("k", 1)
    await service.cache.get_many(["k", "x"])
    await service.cache.get_or_compute("c", Computation())
    of_set, of_get, of_compute = telemetry.spans
    common = {"db.system.name": "tiered_cache", "db.namespace": "tiered_cache"}
    assert of_set.attributes == {**common, "db.operation.name": "set", "tiered_cache.keys": 1}
    assert of_get.attributes == {
        **common,
        "db.operation.name": "get",
        "tiered_cache.keys": 2,
        "tiered_cache.hits.front": 1,
        "tiered_cache.hits.store": 0,
        "tiered_cache.misses": 1,
    }
    assert of_compute.attributes is not None
    assert of_compute.attributes["tiered_cache.computation"] == ("computed",)
    assert {(span.kind, span.status.status_code) for span in telemetry.spans} == {(SpanKind.INTERNAL, StatusCode.UNSET)}
    scope = of_set.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == ("tiered_cache", "https://opentelemetry.io/schemas/1.33.0")


async def test_an_error_is_its_class_and_no_message(telemetry: Telemetry, service: Service) -> None:
    service.store.down = True
    with pytest.raises(StoreUnavailableError):
        await service.cache.get("k")
    with pytest.raises(LookupError):
        await service.cache.get_or_compute("k", Computation(LookupError("secret")))
    for span, name in zip(telemetry.spans, ("StoreUnavailableError", "LookupError"), strict=True):
        assert span.attributes is not None
        assert span.attributes["error.type"] == name
        assert (span.status.status_code, span.status.description, list(span.events)) == (StatusCode.ERROR, None, [])
    assert [point.attributes["error.type"] for point in telemetry.points(DURATION)] == [
        "StoreUnavailableError",
        "LookupError",
    ]


async def test_a_cancelled_operation_is_one(telemetry: Telemetry, service: Service) -> None:
    gate = service.store.stop("read")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.cache.get, "k")
        await gate.reached()
        tasks.cancel_scope.cancel()
    (span,) = telemetry.spans
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.status.status_code) == ("cancelled", StatusCode.ERROR)


async def test_the_path_of_a_namespace_is_recorded_as_the_user_says(telemetry: Telemetry) -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    telemetry.instrument(cache, name="answers", collection=lambda path: path[0] if path else None)
    await cache.get("k")
    await cache.namespace("tenant", "secret").get("k")
    assert [span.name for span in telemetry.spans] == ["get answers", "get tenant"]
    shown = [cast("Any", each.attributes).get("db.collection.name") for each in telemetry.spans]
    assert shown == [None, "tenant"]
    assert [point.attributes.get("db.collection.name") for point in telemetry.points(DURATION)] == shown


async def test_no_key_no_value_and_no_namespace_is_recorded(telemetry: Telemetry, service: Service) -> None:
    answers = LangChainCache(service.cache.namespace("secret"))
    await answers.aupdate("secret prompt", "secret model", [Generation(text="secret answer")])
    await answers.alookup("secret prompt", "secret model")
    await service.cache.namespace("secret").get_or_compute("secret", Computation("secret"))
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    assert "secret" not in data.to_json() + "".join(span.to_json() for span in telemetry.spans)
    assert len(telemetry.spans) == 3


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_durations_are_a_histogram_as_the_conventions_have_it(telemetry: Telemetry, service: Service) -> None:
    await service.cache.set("k", 1)
    await service.cache.get("k")
    await service.cache.get("x")
    assert isinstance(service.front.inner, MemoryFront)
    await service.front.inner.aclose()  # forgets everything
    await service.cache.get("k")
    points: list[HistogramDataPoint] = telemetry.points(DURATION)
    assert [point.explicit_bounds for point in points] == [(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)] * 4
    common = {"db.system.name": "tiered_cache", "db.namespace": "tiered_cache"}
    assert [(dict(point.attributes or {}), point.count) for point in points] == [
        ({**common, "db.operation.name": "set"}, 1),
        *(
            ({**common, "db.operation.name": "get", "tiered_cache.tier": tier}, 1)
            for tier in ("front", "none", "store")
        ),
    ]
    spans = [((span.end_time or 0) - (span.start_time or 0)) / 1e9 for span in telemetry.spans]
    assert all(point.sum <= span for point, span in zip(points, spans, strict=True))


async def test_counters_are_those_of_stats(telemetry: Telemetry, world: World) -> None:
    cache = TieredCache(world.front, world.store, front_timeout=PATIENCE_SECONDS)
    telemetry.instrument(cache)
    await cache.set_many({"a": 1, "b": 2})
    await cache.get_many(["a", "x"])
    world.lose_front()
    await cache.get_many(["a", "b", "x"])
    await cache.get_or_compute("c", Computation())
    await cache.delete("a")
    await cache.clear()
    await cache.aclose()
    stats = cache.stats()
    assert telemetry.values("tiered_cache.lookups", "tiered_cache.tier") == {
        "front": stats.hits_front,
        "store": stats.hits_store,
        "none": stats.misses,
    }
    for name in ("sets", "deletes", "clears", "computed", "promotions", "corrupt", "adapter_errors"):
        assert telemetry.values(f"tiered_cache.{name}") == {None: getattr(stats, name)}, name
    kind = "tiered_cache.exchange.kind"
    latency = stats.latency
    assert telemetry.values("tiered_cache.exchanges", kind) == {each: latency[each].count for each in latency}
    assert telemetry.values("tiered_cache.exchange.time", kind) == {each: latency[each].total for each in latency}
    keys = telemetry.values("tiered_cache.exchange.keys", kind)
    assert {each: keys[each] / latency[each].count for each in latency} == pytest.approx(dict(stats.batch_size))
    operations = [span.attributes or {} for span in telemetry.spans]
    for attribute, n in (("hits.front", stats.hits_front), ("hits.store", stats.hits_store), ("misses", stats.misses)):
        assert sum(cast("int", each.get(f"tiered_cache.{attribute}", 0)) for each in operations) == n


async def test_failures_and_breakers_are_counted(telemetry: Telemetry, service: Service) -> None:
    await service.cache.get("k")
    service.front.fail("get")
    await service.cache.get("k")
    service.store.fail("write")
    with pytest.raises(StoreUnavailableError):
        await service.cache.set("k", 1)
    stats = service.cache.stats()
    errors = {
        (point.attributes["tiered_cache.tier"], point.attributes.get("error.type")): point.value
        for point in telemetry.points("tiered_cache.exchange.errors")
    }
    assert errors == {
        **{("front", reason): n for reason, n in stats.front_failures.items()},
        ("store", None): stats.store_errors,
    }
    assert (stats.front_errors, stats.store_errors) == (1, 1)
    states = {
        (point.attributes["tiered_cache.exchange.kind"], point.attributes["tiered_cache.breaker.state"]): point.value
        for point in telemetry.points("tiered_cache.breaker.status")
    }
    assert states == {
        (kind, state): int(state == now)
        for kind, now in stats.breakers.items()
        for state in ("closed", "open", "half_open")
    }


def test_every_counter_of_stats_is_exported(telemetry: Telemetry, service: Service) -> None:
    numbers = {field.name for field in fields(Stats) if type(field.default) is int}
    plain = {name for name in numbers if telemetry.points(f"tiered_cache.{name}")}
    assert numbers - plain == {
        *("hits_front", "hits_store", "misses"),
        *("front_errors", "store_errors", "front_spared", "store_spared"),
    }


# --- several caches, and the end --------------------------------------------------------------------------------------


async def test_caches_are_told_apart_by_name_and_those_of_one_name_are_added_up(telemetry: Telemetry) -> None:
    caches = [TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS) for _ in range(3)]
    for cache, name in zip(caches, ("one", "other", "other"), strict=True):
        telemetry.instrument(cache, name=name)
        await cache.set("k", 1)
    assert telemetry.values("tiered_cache.sets", "db.namespace") == {"one": 1, "other": 2}
    assert [span.name for span in telemetry.spans] == ["set one", "set other", "set other"]


async def test_a_provider_may_become_the_global_one_later(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS) for _ in range(3)]
    telemetry.instrument(caches[0], name="before")
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: telemetry.meters)
    telemetry.instrument(caches[1], name="after")
    telemetry.instrument(caches[2], name="not named", meter_provider=None)
    for cache in caches:
        await cache.set("k", 1)
    counted = telemetry.values("tiered_cache.sets", "db.namespace")
    assert counted == {"before": 1, "after": 1, "not named": 1}


async def test_what_was_undone_records_nothing_and_can_be_done_again(telemetry: Telemetry, service: Service) -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    undo = telemetry.instrument(cache, name="again")
    await cache.set("k", 1)
    undo()
    undo()
    await cache.set("k", 1)
    assert len(telemetry.spans) == 1
    assert telemetry.values("tiered_cache.sets", "db.namespace")["again"] == 1  # a total must not fall
    states = {point.attributes["db.namespace"] for point in telemetry.points("tiered_cache.breaker.status")}
    assert states == {"tiered_cache"}  # but there is no state any more
    telemetry.instrument(cache, name="again")
    await cache.set("k", 1)
    assert len(telemetry.spans) == 2
    assert telemetry.values("tiered_cache.sets", "db.namespace")["again"] == 3


async def test_a_cache_that_nobody_has_any_more_is_not_kept(telemetry: Telemetry) -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    telemetry.instrument(cache)
    await cache.set("k", 1)
    assert telemetry.values("tiered_cache.sets") == {None: 1}
    gone = ref(cache)
    del cache
    gc.collect()
    assert gone() is None
    assert telemetry.values("tiered_cache.sets") == {None: 1}
    assert telemetry.points("tiered_cache.breaker.status") == []


@pytest.mark.parametrize("how", ["undone", "let go of"])
async def test_a_delta_is_never_negative_when_one_of_two_caches_ends(how: str) -> None:
    reader = InMemoryMetricReader({ObservableCounter: AggregationTemporality.DELTA})
    meters = MeterProvider([reader], shutdown_on_exit=False)

    def deltas() -> dict[str, float]:
        data = cast("Any", reader.get_metrics_data())
        metrics_of_all = data.resource_metrics[0].scope_metrics[0].metrics
        counters = [metric for metric in metrics_of_all if isinstance(metric.data, Sum) and metric.data.is_monotonic]
        return {metric.name: sum(point.value for point in metric.data.data_points) for metric in counters}

    caches = [TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS) for _ in range(2)]
    undo = [instrument(cache, meter_provider=meters) for cache in caches]
    for n in range(12):
        await caches[0].set(f"k{n}", n)
        await caches[1].set(f"k{n}", n)
    assert deltas()["tiered_cache.sets"] == 24
    await caches[0].set("k", 1)
    if how == "undone":
        await caches[1].set("k", 1)
        undo[1]()
    del caches[1]
    gc.collect()
    for expected in (2 if how == "undone" else 1, 0):
        found = deltas()
        assert found["tiered_cache.sets"] == expected
        assert min(found.values()) >= 0
    instrument(caches[0], meter_provider=meters)
    await caches[0].set("k", 1)
    assert deltas()["tiered_cache.sets"] == 1
    meters.shutdown()


async def test_a_cache_that_is_instrumented_twice_is_recorded_once(telemetry: Telemetry) -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    undo = [telemetry.instrument(cache) for _ in range(2)]
    for recorded in (1, 2, 2):
        await cache.set("k", 1)
        assert telemetry.values("tiered_cache.sets") == {None: recorded}
        assert [point.count for point in telemetry.points(DURATION)] == [recorded]
        assert len(telemetry.spans) == recorded
        if undo:
            end = undo.pop(0)
            end()
            end()  # counts as one


async def test_the_callers_span_is_not_hidden_where_only_metrics_are_wanted(telemetry: Telemetry) -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    instrument(cache, tracer_provider=trace.NoOpTracerProvider(), meter_provider=telemetry.meters)

    async def compute() -> int:
        seen.append(trace.get_current_span())
        return 1

    seen: list[trace.Span] = []
    with telemetry.tracer.start_as_current_span("request") as request:
        await cache.get_or_compute("k", compute)
        assert trace.get_current_span() is request
    assert seen == [request]


async def test_a_span_that_is_not_sampled_is_still_the_parent(telemetry: Telemetry) -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    instrument(
        cache, tracer_provider=TracerProvider(ALWAYS_OFF, shutdown_on_exit=False), meter_provider=telemetry.meters
    )

    async def compute() -> int:
        with telemetry.tracer.start_as_current_span("model") as model:  # its sampler does as the parent's did
            seen.append(model.is_recording())
        return 1

    seen: list[bool] = []
    await cache.get_or_compute("k", compute)
    with telemetry.tracer.start_as_current_span("request"):
        await cache.get_or_compute("other", compute)
    assert seen == [False, False]


async def test_without_an_sdk_nothing_is_recorded_and_nothing_fails() -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=PATIENCE_SECONDS)
    undo = instrument(cache)
    await cache.set("k", 1)
    assert await cache.get("k") == 1
    undo()
