"""LangGraph's node and task cache over a `TieredCache`: `builder.compile(cache=LangGraphCache(cache))`.

Needs the extra `langgraph`. For the cache of a chat model see `tiered_cache.langchain`.
"""

from __future__ import annotations

from tiered_cache._errors import require_extra

try:
    import langgraph.cache.base as _found
except ModuleNotFoundError as _error:
    raise require_extra("langgraph", "langgraph") from _error

from ._adapter import LangGraphCache
from ._key import stable_cache_key

del _found

__all__ = ["LangGraphCache", "stable_cache_key"]
