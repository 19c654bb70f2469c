"""LangGraph's own caches."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import redis

from .base import Contender, LangGraphSubject


class SqliteCache(LangGraphSubject):
    async def open(self) -> None:
        module: Any = import_module("langgraph.cache.sqlite")
        self.cache = module.SqliteCache(path=str(self.setting.place.file("-langgraph.db")))

    async def aclose(self) -> None:
        del self.cache


class RedisCache(LangGraphSubject):
    """With the synchronous client, which is the one that it works with."""

    async def open(self) -> None:
        module: Any = import_module("langgraph.cache.redis")
        place = self.setting.place
        self._client: Any = redis.Redis.from_url(place.redis)  # pyright: ignore[reportUnknownMemberType]
        self.cache = module.RedisCache(self._client, prefix=f"{place.name}:")

    async def aclose(self) -> None:
        self._client.close()


class InMemoryCache(LangGraphSubject):
    async def open(self) -> None:
        module: Any = import_module("langgraph.cache.memory")
        self.cache = module.InMemoryCache()

    async def aclose(self) -> None:
        del self.cache


CONTENDERS = [
    Contender("langgraph-SqliteCache", "langgraph", frozenset(("sqlite",)), SqliteCache),
    Contender("langgraph-RedisCache", "langgraph", frozenset(("redis",)), RedisCache),
    Contender("langgraph-InMemoryCache", "langgraph", frozenset(("memory",)), InMemoryCache),
]
