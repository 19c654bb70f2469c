"""LangChain's caches over `TieredCache`: of what models answer, of embeddings, and of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiered_cache._errors import require_extra

try:
    import langchain_core  # noqa: F401  # pyright: ignore[reportUnusedImport]  (only to say what is missing)
except ImportError as _error:
    raise require_extra("langchain-core", "langchain") from _error

from ._bytestore import TieredByteStore
from ._cache import LangChainCache
from ._chat_model import cached_chat_model
from ._complete import is_complete
from ._embeddings import CachedEmbeddings
from ._notes import Remembered

if TYPE_CHECKING:
    from ._middleware import CacheMiddleware as CacheMiddleware

# And CacheMiddleware, which needs `langchain` itself and is imported when it is asked for.
__all__ = ["CachedEmbeddings", "LangChainCache", "Remembered", "TieredByteStore", "cached_chat_model", "is_complete"]


def __getattr__(name: str) -> Any:
    if name != "CacheMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._middleware import CacheMiddleware

    return CacheMiddleware
