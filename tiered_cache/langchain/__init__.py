"""LangChain's caches over `TieredCache`: of what models answer, and of bytes (embeddings)."""

from tiered_cache._errors import require_extra

try:
    import langchain_core  # noqa: F401  # pyright: ignore[reportUnusedImport]  (only to say what is missing)
except ImportError as _error:
    raise require_extra("langchain-core", "langchain") from _error

from ._bytestore import TieredByteStore
from ._cache import LangChainCache

__all__ = ["LangChainCache", "TieredByteStore"]
