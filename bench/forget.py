"""Makes a Redis forget, as an eviction, a restart or a FLUSHALL would."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from .job import Place

_AT_ONCE = 5000


async def forget(place: Place) -> None:
    """Everything in a Redis that was started for this run; in one that was given, what this sample put there."""
    if place.own_redis:
        async with _client(place.redis) as client:
            await client.flushall()
    else:
        await unlink(place.redis, place.name)


async def unlink(url: str, prefix: str) -> None:
    """All keys that begin with `prefix`, and no others."""
    async with _client(url) as client:
        keys: list[Any] = []
        async for key in client.scan_iter(match=f"{prefix}*", count=_AT_ONCE):
            keys.append(key)
            if len(keys) == _AT_ONCE:
                await client.unlink(*keys)
                keys.clear()
        if keys:
            await client.unlink(*keys)


def _client(url: str) -> Any:
    client: Any = redis.asyncio.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    return client
