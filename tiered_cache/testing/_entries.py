"""Entries for the store's suite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Final

from tiered_cache._errors import TieredCacheError
from tiered_cache._tiers import Entry, Store

A: Final = b"A" * 16
B: Final = b"B" * 16


def digest(name: object) -> bytes:
    """The digest of an entry, by any name."""
    return blake2b(repr(name).encode(), digest_size=32).digest()


def entry(
    key: object,
    envelope: bytes = b"envelope",
    *,
    address: bytes = A,
    ttl: int | None = None,
    name: bytes | None = None,
) -> Entry:
    """An entry under `digest(key)`."""
    return Entry(digest(key), address, envelope, ttl, name)


class Emptied:
    """Stands for a front whose cells are emptied before their rows go; records which."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.error: Exception | None = None

    async def __call__(self, digests: Sequence[bytes]) -> None:
        if self.error is not None:
            raise self.error
        self.digests += digests


async def drained(store: Store, limit: int) -> list[int]:
    """Batches removed until there is nothing left to remove."""
    batches: list[int] = []
    while removed := await store.reclaim(limit, Emptied()):
        batches.append(removed)
    return batches


async def left(store: Store, *keys: object) -> set[object]:
    """Which of the entries under these keys are there."""
    rows = (await store.read([digest(key) for key in keys], [])).rows
    return {key for key in keys if digest(key) in rows}


async def refused(call: Callable[[], Awaitable[object]], kind: type[TieredCacheError]) -> bool:
    """Whether the call raises this; any other error goes on as it is."""
    try:
        await call()
    except kind:
        return True
    return False


async def content(store: Store, key: object) -> bytes | None:
    """The envelope of the entry under this key, if it is there."""
    row = (await store.read([digest(key)], [])).rows.get(digest(key))
    return None if row is None else row.envelope
