"""Two or more "processes" over the same tiers, in one test: each has a cache object and watched tiers of its own.

    @pytest.fixture(scope="module", params=EVERY_PAIR)
    async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
        for each in open_tiers(request):
            yield each
            await each.aclose()

Tiers are shared by all tests of a module; each test takes a namespace that nobody else has.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, Final, Protocol, cast
from uuid import uuid4

import pytest

from tests.naive import NaiveCache
from tests.servers import fresh_database, redis_admin
from tiered_cache import MISSING, Front, MemoryFront, Store, TieredCache
from tiered_cache._keys import Scope, front_key
from tiered_cache._options import OptionsDict
from tiered_cache._redis import RedisFront
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore

EVERY_PAIR: Final = tuple(
    pytest.param((front, store), id=f"{front}-{store}")
    for front in ("memory", "redis")
    for store in ("sqlite", "postgres")
)

# Gates hold calls for as long as a busy machine takes; a mark must not expire meanwhile.
UNHURRIED: Final = OptionsDict(front_timeout=30.0, store_timeout=30.0, mark_ttl=300.0, front_ttl=600.0)


def unhurried(**more: Any) -> OptionsDict:
    return cast("OptionsDict", {**UNHURRIED, **more})


class Space(Protocol):
    """What naive caches and ours have in common."""

    async def get(self, key: str, default: Any = None) -> Any: ...

    async def set(self, key: str, value: Any) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def clear(self) -> None: ...


class Tiers:
    """A front and a store, and ways to look into the front and to make it forget."""

    def __init__(self, front: Front, store: Store, redis_url: str | None = None) -> None:
        self.front = front
        self.store = store
        self._redis_url = redis_url

    async def aclose(self) -> None:
        """What the background opened has a loop that goes on."""
        await self.front.aclose()
        await self.store.aclose()

    async def prefix(self) -> bytes:
        return f"tiered_cache:{await self.store.setup(create=True)}:".encode()

    async def cell(self, scope: Scope, name: str | None) -> bytes | None:
        """What the front holds for a name, or (None) for the watermark of the scope."""
        return (await self.front.get([await self.front_key(scope, name)]))[0]

    async def drop(self, scope: Scope, name: str | None) -> None:
        """As an eviction does."""
        key = await self.front_key(scope, name)
        if self._redis_url is not None:
            with redis_admin(self._redis_url) as client:
                client.delete(key)
        else:
            assert isinstance(self.front, MemoryFront)
            self.front._drop(key)

    async def left(self, scope: Scope, name: str | None) -> int:
        """Milliseconds until the cell expires; negative where there is none."""
        key = await self.front_key(scope, name)
        if self._redis_url is not None:
            with redis_admin(self._redis_url) as client:
                left = client.pttl(key)
                assert isinstance(left, int)
                return left
        assert isinstance(self.front, MemoryFront)
        cell = self.front._cells.get(key)
        return -2 if cell is None else cell.expires - int(self.front._clock() * 1000)

    async def front_key(self, scope: Scope, name: str | None) -> bytes:
        return front_key(await self.prefix(), scope.watermark if name is None else scope.key(name).digest)


class Process:
    """One process among several. `space` is its view of the namespace, `above` of that namespace's parent."""

    space: Space
    above: Space

    def __init__(self, tiers: Tiers) -> None:
        self.front = FaultyFront(tiers.front)
        self.store = FaultyStore(tiers.store)


class OurProcess(Process):
    def __init__(self, tiers: Tiers, scope: Scope) -> None:
        super().__init__(tiers)
        self.cache = TieredCache(self.front, self.store, **UNHURRIED)
        self.cache.view.shared.engine.on_change = lambda _: None  # the background would empty cells of other stages
        self.space = self.cache.namespace(*scope.path)
        self.above = self.cache.namespace(*scope.path[:-1])

    async def settled(self, name: str) -> bool:
        """Reads twice; whether the second was a hit in the front."""
        await self.space.get(name)
        before = self.cache.stats().hits_front
        await self.space.get(name)
        return self.cache.stats().hits_front > before


class NaiveProcess(Process):
    def __init__(self, tiers: Tiers, scope: Scope, prefix: bytes, judging: str) -> None:
        super().__init__(tiers)
        self.space = NaiveCache(self.front, self.store, prefix, scope, ["k"], judging)
        self.above = _NaiveParent(self, scope, prefix)


class _NaiveParent(NaiveCache):
    def __init__(self, process: Process, scope: Scope, prefix: bytes) -> None:
        super().__init__(process.front, process.store, prefix, Scope(scope.path[:-1]), [])
        self._below = process.space

    async def clear(self) -> None:
        await super().clear()
        await self._below.clear()


class Stage:
    """Where one race is run: an unused namespace, and processes that are all naive or all ours.

    `naive` is "" for ours, "plain" for a naive cache without watermarks in the front, or how one with them judges.
    """

    def __init__(self, tiers: Tiers, naive: str = "") -> None:
        self.tiers = tiers
        self.naive = naive
        self.scope = Scope((uuid4().hex, "answers"))

    async def process(self) -> Process:
        if not self.naive:
            return OurProcess(self.tiers, self.scope)
        judging = "" if self.naive == "plain" else self.naive
        return NaiveProcess(self.tiers, self.scope, await self.tiers.prefix(), judging)

    async def drop_cell(self) -> None:
        await self.tiers.drop(self.scope, "k")

    async def drop_watermarks(self) -> None:
        await self.tiers.drop(self.scope, None)
        await self.tiers.drop(Scope(self.scope.path[:-1]), None)
        await self.tiers.drop(Scope(()), None)

    async def answers(self) -> list[Any]:
        """What processes that come later read, again and again: a stale cell would show in one of them."""
        late = [await self.process() for _ in range(2)]
        return [await process.space.get("k", MISSING) for process in (*late, *late)]


def open_tiers(request: pytest.FixtureRequest) -> Generator[Tiers]:
    front, store = request.param
    redis_url = request.getfixturevalue("redis_server").url if front == "redis" else None
    inner = RedisFront(redis_url, timeout=30) if redis_url else MemoryFront()
    with ExitStack() as exits:
        if store == "postgres":
            url = exits.enter_context(fresh_database(request.getfixturevalue("postgres_server").url))
        else:
            url = f"sqlite:///{request.getfixturevalue('tmp_path_factory').mktemp('races') / 'store.db'}"
        yield Tiers(inner, SqlStore(url, timeout=30), redis_url)
