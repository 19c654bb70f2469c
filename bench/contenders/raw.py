"""The limits: one command, one statement, and nothing around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis.asyncio
from sqlalchemy.engine import make_url

from bench import payloads

from .base import Contender, Setting, Subject

_POOL = 16
#: For a connection of the pool, in seconds: longer than any crowd here takes.
_PATIENCE = 20


class RedisPy(Subject):
    """GET and SET of redis-py's asyncio client, with a pool that waits (its default one raises in a crowd)."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._prefix = f"{setting.place.name}:"

    async def open(self) -> None:
        pool: Any = redis.asyncio.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            self.setting.place.redis, max_connections=_POOL, timeout=_PATIENCE
        )
        self._client: Any = redis.asyncio.Redis(connection_pool=pool)

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def get(self, keys: Sequence[int]) -> int:
        if len(keys) == 1:
            return int(await self._client.get(self._prefix + payloads.key(keys[0])) is not None)
        found = await self._client.mget([self._prefix + payloads.key(key) for key in keys])
        return sum(each is not None for each in found)

    async def put(self, keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        await self._client.mset({self._prefix + payloads.key(key): payloads.plain(key, size) for key in keys})

    async def check(self, key: int) -> bool:
        found = await self._client.get(self._prefix + payloads.key(key))
        return bool(found == payloads.plain(key, self.setting.value_bytes))


class Asyncpg(Subject):
    """A prepared SELECT by primary key, and an upsert, on a pool of asyncpg's."""

    async def open(self) -> None:
        import asyncpg

        place = self.setting.place
        url = make_url(place.postgres).set(drivername="postgresql").render_as_string(hide_password=False)
        driver: Any = asyncpg
        self._pool: Any = await driver.create_pool(
            url, min_size=1, max_size=_POOL, server_settings={"search_path": place.name}
        )
        await self._pool.execute("CREATE TABLE raw (key text PRIMARY KEY, value bytea NOT NULL)")

    async def aclose(self) -> None:
        await self._pool.close()

    async def get(self, keys: Sequence[int]) -> int:
        if len(keys) == 1:
            row = await self._pool.fetchval("SELECT value FROM raw WHERE key = $1", payloads.key(keys[0]))
            return int(row is not None)
        names = [payloads.key(key) for key in keys]
        return len(await self._pool.fetch("SELECT key, value FROM raw WHERE key = ANY($1)", names))

    async def put(self, keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        await self._pool.execute(
            "INSERT INTO raw SELECT * FROM unnest($1::text[], $2::bytea[])"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [payloads.key(key) for key in keys],
            [payloads.plain(key, size) for key in keys],
        )

    async def check(self, key: int) -> bool:
        found = await self._pool.fetchval("SELECT value FROM raw WHERE key = $1", payloads.key(key))
        return bool(found == payloads.plain(key, self.setting.value_bytes))


CONTENDERS = [
    Contender("redis-py", "plain", frozenset(("redis",)), RedisPy),
    Contender("asyncpg", "plain", frozenset(("postgres",)), Asyncpg),
]
