"""Names of the semantic conventions for database clients, and of the scope that uses them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

SCOPE: Final = "tiered_cache"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"  # the first in which those for databases are stable

SYSTEM: Final = "db.system.name"
NAMESPACE: Final = "db.namespace"
COLLECTION: Final = "db.collection.name"
OPERATION: Final = "db.operation.name"
ERROR: Final = "error.type"

# Of our own, where there is no convention.
TIER: Final = "tiered_cache.tier"
KIND: Final = "tiered_cache.exchange.kind"

DURATION: Final = "db.client.operation.duration"
BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)  # as advised there

Attributes = dict[str, str]


def scope_version() -> str:
    try:
        return version("tiered-cache")
    except PackageNotFoundError:  # run from a checkout
        return ""
