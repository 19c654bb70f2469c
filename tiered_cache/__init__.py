"""A two-tier cache for services that call language models and run agents: Redis over SQL, under one rule.

The adapters are in `tiered_cache.langchain` and `tiered_cache.langgraph`.
"""

from ._cache import TieredCache
from ._cached import AsyncCached, Cached
from ._codecs import Codec, PlainCodec, RawCodec
from ._errors import (
    ConfigurationError,
    CorruptValueError,
    FrontUnavailableError,
    MissingExtraError,
    NotCachedError,
    SchemaError,
    StoreUnavailableError,
    TieredCacheError,
    UnsupportedValueError,
)
from ._explain import Explanation
from ._freshness import freshness
from ._memory import MemoryFront
from ._namespace import Namespace, SyncNamespace
from ._observe import Operation, SpanObserver
from ._options import Options
from ._rule import Step
from ._stable import stable_key
from ._stats import Audited, Event, Latency, Price, Saved, Stats
from ._tiers import Entry, Found, Front, Notice, Row, Store
from ._view import INHERIT, MISSING

__all__ = [
    "INHERIT",
    "MISSING",
    "AsyncCached",
    "Audited",
    "Cached",
    "Codec",
    "ConfigurationError",
    "CorruptValueError",
    "Entry",
    "Event",
    "Explanation",
    "Found",
    "Front",
    "FrontUnavailableError",
    "Latency",
    "MemoryFront",
    "MissingExtraError",
    "Namespace",
    "NotCachedError",
    "Notice",
    "Operation",
    "Options",
    "PlainCodec",
    "Price",
    "RawCodec",
    "Row",
    "Saved",
    "SchemaError",
    "SpanObserver",
    "Stats",
    "Step",
    "Store",
    "StoreUnavailableError",
    "SyncNamespace",
    "TieredCache",
    "TieredCacheError",
    "UnsupportedValueError",
    "freshness",
    "stable_key",
]
