"""Spans, and the histogram of their durations."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import NamedTuple

from opentelemetry import context, metrics, trace
from opentelemetry.util.types import AttributeValue

from tiered_cache._keys import Path
from tiered_cache._observe import Operation, OperationName

from ._names import COLLECTION, ERROR, NAMESPACE, OPERATION, SCHEMA, SCOPE, TIER, Attributes, scope_version


class _Begun(NamedTuple):
    span: trace.Span
    token: Token[context.Context] | None
    attributes: Attributes


class Spans:
    """The observer of one cache."""

    def __init__(
        self,
        provider: trace.TracerProvider | None,
        duration: metrics.Histogram,
        attributes: Attributes,
        collection: Callable[[Path], str | None] | None,
    ) -> None:
        #: Calls of `instrument` that were not undone, and what ends it when there are none.
        self.users = 0
        self.unobserve: Callable[[], None] = lambda: None
        self._provider = None if provider is trace.get_tracer_provider() else provider
        self._tracer = trace.get_tracer(SCOPE, scope_version(), provider, SCHEMA)
        self._duration = duration
        self._attributes = attributes
        self._collection = collection

    def same_as(self, other: Spans) -> bool:
        return (self._provider, self._attributes, self._collection) == (
            other._provider,
            other._attributes,
            other._collection,
        )

    def begin(self, name: OperationName, namespace: Path, keys: int) -> _Begun:
        attributes = {**self._attributes, OPERATION: name}
        target = self._attributes[NAMESPACE]
        if self._collection is not None and (shown := self._collection(namespace)) is not None:
            attributes[COLLECTION] = target = shown
        span = self._tracer.start_span(
            f"{name} {target}", kind=trace.SpanKind.INTERNAL, attributes={**attributes, "tiered_cache.keys": keys}
        )
        # A provider that traces nothing gives no context, or the caller's own: such a span would hide the caller's. One
        # that is only not sampled has a context of its own, by which what is below it is not sampled either.
        mine = span.get_span_context()
        traced = mine.is_valid and mine.span_id != trace.get_current_span().get_span_context().span_id
        return _Begun(span, context.attach(trace.set_span_in_context(span)) if traced else None, attributes)

    def end(self, begun: _Begun, operation: Operation) -> None:
        span, token, attributes = begun
        if operation.outcome != "ok":
            attributes[ERROR] = operation.outcome
        if (tier := _tier(operation)) is not None:
            attributes[TIER] = tier
        try:
            self._duration.record(operation.seconds, attributes)
            if span.is_recording():
                _describe(span, operation)
        finally:
            if token is not None:
                context.detach(token)
            span.end()


def _describe(span: trace.Span, operation: Operation) -> None:
    found: dict[str, AttributeValue] = {}
    if operation.name in ("get", "get_or_compute"):
        found["tiered_cache.hits.front"] = operation.hits_front
        found["tiered_cache.hits.store"] = operation.hits_store
        found["tiered_cache.misses"] = operation.misses
    if operation.computation:
        found["tiered_cache.computation"] = operation.computation
    if operation.outcome != "ok":
        found[ERROR] = operation.outcome
        span.set_status(trace.StatusCode.ERROR)  # without a message: it might quote a key
    if found:
        span.set_attributes(found)


def _tier(operation: Operation) -> str | None:
    """Where what was found had been; None where nobody looked."""
    if operation.misses:
        return "none"
    if operation.hits_store:
        return "store"
    return "front" if operation.hits_front else None
