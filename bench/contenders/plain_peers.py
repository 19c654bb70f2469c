"""Caches for plain values on Redis, in their default configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sqlalchemy.engine import make_url

from bench import payloads

from .base import Contender, Subject


class Cashews(Subject):
    async def open(self) -> None:
        module: Any = import_module("cashews")
        self._cache: Any = module.Cache()
        self._prefix = f"{self.setting.place.name}:"
        self._cache.setup(self.setting.place.redis)
        await self._cache.init()

    async def aclose(self) -> None:
        await self._cache.close()

    async def get(self, keys: Sequence[int]) -> int:
        if len(keys) == 1:
            return int(await self._cache.get(self._prefix + payloads.key(keys[0])) is not None)
        found = await self._cache.get_many(*(self._prefix + payloads.key(key) for key in keys))
        return sum(each is not None for each in found)

    async def put(self, keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        pairs = {self._prefix + payloads.key(key): payloads.plain(key, size) for key in keys}
        await self._cache.set_many(pairs, expire=3600)

    async def check(self, key: int) -> bool:
        found = await self._cache.get(self._prefix + payloads.key(key))
        return bool(found == payloads.plain(key, self.setting.value_bytes))

    async def get_or_compute(self, key: int, seconds: float, computed: list[int]) -> bytes:
        """Its decorator, with its lock against stampedes."""

        async def compute(number: int) -> bytes:
            computed.append(number)
            await asyncio.sleep(seconds)
            return payloads.plain(number, self.setting.value_bytes)

        cached = self._cache(ttl=3600, key=self._prefix + "{number}", lock=True)(compute)
        value: bytes = await cached(number=key)
        return value


class Aiocache(Subject):
    """With the serializer that can hold bytes (its default, JSON, cannot)."""

    async def open(self) -> None:
        aiocache: Any = import_module("aiocache")
        serializers: Any = import_module("aiocache.serializers")
        url = make_url(self.setting.place.redis)
        self._cache: Any = aiocache.RedisCache(
            endpoint=url.host,
            port=url.port or 6379,
            db=int(url.database or 0),
            password=url.password,
            namespace=self.setting.place.name,
            serializer=serializers.PickleSerializer(),
        )

    async def aclose(self) -> None:
        await self._cache.close()

    async def get(self, keys: Sequence[int]) -> int:
        if len(keys) == 1:
            return int(await self._cache.get(payloads.key(keys[0])) is not None)
        found = await self._cache.multi_get([payloads.key(key) for key in keys])
        return sum(each is not None for each in found)

    async def put(self, keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        pairs = [(payloads.key(key), payloads.plain(key, size)) for key in keys]
        await self._cache.multi_set(pairs, ttl=3600)

    async def check(self, key: int) -> bool:
        found = await self._cache.get(payloads.key(key))
        return bool(found == payloads.plain(key, self.setting.value_bytes))


CONTENDERS = [
    Contender("cashews", "plain", frozenset(("redis",)), Cashews),
    Contender("aiocache", "plain", frozenset(("redis",)), Aiocache),
]
