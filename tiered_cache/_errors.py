"""Every error this package raises on purpose, under one root."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal


class TieredCacheError(Exception):
    """The root of all errors raised by this package."""


class ConfigurationError(TieredCacheError, ValueError):
    """A setting or an argument is wrong. The message says which, and what would be right."""


class MissingExtraError(TieredCacheError, ImportError):
    """An optional library is needed that is not installed. The message names the extra that brings it."""


class UnsupportedValueError(TieredCacheError, TypeError):
    """The codec cannot carry a value so that it comes out equal; or no stable key can be made of an argument.

    Names the key, or the place in the argument, and the type, never the value.
    """


class CorruptValueError(TieredCacheError, ValueError):
    """Raised by a codec for bytes it cannot read. The engine counts it and reports a miss."""


#: Why a front did not answer: no connection; no reply in time; no free connection in time; a reply that says it cannot
#: (loading, out of memory, a read-only replica, a script in its way); a reply that is none; anything else.
FrontFailure = Literal["refused", "timeout", "pool_wait", "busy", "protocol", "other"]


class FrontUnavailableError(TieredCacheError):
    """The front did not answer. The engine counts it, by `failure`, and goes on with the store.

    Callers see it from `erase` and `reclaim` alone, which must not leave in the front what they remove from the store.
    """

    def __init__(self, message: str, *, failure: FrontFailure = "other") -> None:
        super().__init__(message)
        self.failure: FrontFailure = failure


class StoreUnavailableError(TieredCacheError):
    """The store did not answer, or answered with a fault that is not the caller's.

    After a write: `outcome_known` is false when the change may nevertheless have been committed.
    """

    def __init__(self, message: str, *, outcome_known: bool = True) -> None:
        super().__init__(message)
        self.outcome_known = outcome_known


class NotCachedError(TieredCacheError, LookupError):
    """Something would have to be computed, and the reader asked for `only_if_cached`. Names no key and no value."""


class SchemaError(TieredCacheError):
    """The tables in the store are missing, of a newer release, or not this package's."""


def require_extra(library: str, extra: str) -> MissingExtraError:
    """The error to raise (`from` the ImportError) where an optional library is missing."""
    return MissingExtraError(f"{library} is not installed: pip install 'tiered-cache[{extra}]'")


def no_attribute(owner: object, name: str, elsewhere: Container[str], cure: str) -> AttributeError:
    """The error to raise where an adapter has no `name`: with the cure, if another framework's caches have it."""
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    return AttributeError(f"{message}: {cure}" if name in elsewhere else message, name=name, obj=owner)
