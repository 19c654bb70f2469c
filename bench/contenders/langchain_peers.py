"""The caches of langchain-community. Its synchronous ones run in LangChain's executor, as its models run them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import redis
import redis.asyncio
from langchain_core.load import dumps
from sqlalchemy import Engine, create_engine, event, insert
from sqlalchemy.engine import make_url

from bench import payloads

from .base import Contender, LangChainSubject, Setting


def _community() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own end
        return import_module("langchain_community.cache")


class SQLAlchemyCache(LangChainSubject):
    """On an engine as its users make one: SQLAlchemy's default pool."""

    def __init__(self, setting: Setting, store: str, kind: str = "SQLAlchemyCache") -> None:
        super().__init__(setting)
        self._store = store
        self._kind = kind

    def _engine(self) -> Engine:
        place = self.setting.place
        if self._store == "sqlite":
            return create_engine(f"sqlite:///{place.file('-community.db')}")
        url = make_url(place.postgres).set(drivername="postgresql+psycopg")
        engine = create_engine(url)

        @event.listens_for(engine, "connect")
        def set_path(connection: Any, _: object) -> None:
            connection.execute(f"SET search_path TO {place.name}")
            connection.commit()

        return engine

    async def open(self) -> None:
        self._sql = self._engine()
        self.cache = getattr(_community(), self._kind)(self._sql)

    async def aclose(self) -> None:
        self._sql.dispose()

    async def fill(self, keys: Sequence[int]) -> None:
        if self._kind != "SQLAlchemyCache":
            await super().fill(keys)
            return
        rows = [
            {
                "prompt": payloads.prompt(key),
                "llm": payloads.LLM_STRING,
                "idx": 0,
                "response": dumps(payloads.answer(key, self.setting.value_bytes)[0]),
            }
            for key in keys
        ]
        with self._sql.begin() as connection:
            connection.execute(insert(self.cache.cache_schema.__table__), rows)


class RedisCache(LangChainSubject):
    async def open(self) -> None:
        self._client: Any = redis.Redis.from_url(self.setting.place.redis)  # pyright: ignore[reportUnknownMemberType]
        self.cache = _community().RedisCache(self._client, ttl=3600)

    async def aclose(self) -> None:
        self._client.close()


class AsyncRedisCache(LangChainSubject):
    async def open(self) -> None:
        self._client: Any = redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self.setting.place.redis
        )
        self.cache = _community().AsyncRedisCache(self._client, ttl=3600)

    async def aclose(self) -> None:
        await self._client.aclose()


CONTENDERS = [
    Contender(
        "langchain-SQLAlchemyCache-postgres",
        "langchain",
        frozenset(("postgres",)),
        lambda s: SQLAlchemyCache(s, "postgres"),
    ),
    Contender(
        "langchain-SQLAlchemyCache-sqlite", "langchain", frozenset(("sqlite",)), lambda s: SQLAlchemyCache(s, "sqlite")
    ),
    Contender(
        "langchain-SQLAlchemyMd5Cache-postgres",
        "langchain",
        frozenset(("postgres",)),
        lambda s: SQLAlchemyCache(s, "postgres", "SQLAlchemyMd5Cache"),
    ),
    Contender("langchain-RedisCache", "langchain", frozenset(("redis",)), RedisCache, flushes=True),
    Contender("langchain-AsyncRedisCache", "langchain", frozenset(("redis",)), AsyncRedisCache, flushes=True),
]
