"""A two-tier cache for services that call language models and run agents: Redis over SQL, under one rule.

The adapters are in `tiered_cache.langchain` and `tiered_cache.langgraph`.
"""

from ._cache import TieredCache
from ._codecs import Codec, PlainCodec, RawCodec
from ._errors import (
    ConfigurationError,
    CorruptValueError,
    FrontUnavailableError,
    MissingExtraError,
    SchemaError,
    StoreUnavailableError,
    TieredCacheError,
    UnsupportedValueError,
)
from ._memory import MemoryFront
from ._namespace import Namespace, SyncNamespace
from ._options import Options
from ._rule import Step
from ._stats import Audited, Event, Latency, Stats
from ._tiers import Entry, Found, Front, Notice, Row, Store
from ._view import INHERIT, MISSING

__all__ = [
    "INHERIT",
    "MISSING",
    "Audited",
    "Codec",
    "ConfigurationError",
    "CorruptValueError",
    "Entry",
    "Event",
    "Found",
    "Front",
    "FrontUnavailableError",
    "Latency",
    "MemoryFront",
    "MissingExtraError",
    "Namespace",
    "Notice",
    "Options",
    "PlainCodec",
    "RawCodec",
    "Row",
    "SchemaError",
    "Stats",
    "Step",
    "Store",
    "StoreUnavailableError",
    "SyncNamespace",
    "TieredCache",
    "TieredCacheError",
    "UnsupportedValueError",
]
