"""OpenTelemetry's spans and metrics of a cache, through its API package: without an SDK nothing is recorded.

To its callers the cache is one database, in their own process: names are those of the semantic conventions for database
clients where there are any, with `db.system.name` "tiered_cache", and spans are INTERNAL, as the conventions allow for
such. What it exchanges with Redis and with the database has no spans here: one exchange serves many callers, so it
belongs to none of their traces, and the instrumentations of redis-py and SQLAlchemy record it as what it is. They find
the span of the caller who leads the batch. Here it is counted, under names of its own.
"""

from tiered_cache._errors import require_extra

try:
    import opentelemetry.trace  # noqa: F401  # pyright: ignore[reportUnusedImport]  (only to say what is missing)
except ImportError as _error:
    raise require_extra("opentelemetry-api", "otel") from _error

from ._instrument import instrument

__all__ = ["instrument"]
