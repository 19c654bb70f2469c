"""How long things live: entries by the store's clock, cells by the front's; the two are never compared."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import anyio
import pytest

from tests.processes import EVERY_PAIR, UNHURRIED, OurProcess, Stage, Tiers, open_tiers, unhurried
from tests.servers import redis_admin
from tiered_cache import MISSING, MemoryFront, TieredCache
from tiered_cache._keys import Scope
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore


class Clocked:
    """Embedded tiers whose clocks are years apart, and move together when told to."""

    def __init__(self, store_url: str) -> None:
        self.now = 1000.0
        self.front = FaultyFront(MemoryFront(clock=lambda: self.now))
        self.store = FaultyStore(SqlStore(store_url, clock=lambda: self.now + 1_700_000_000))
        self.tiers = Tiers(self.front.inner, self.store.inner)
        self.scope = Scope(("n",))

    def cache(self, **options: float | None) -> TieredCache:
        return TieredCache(self.front, self.store, **unhurried(**options))

    async def left(self, name: str | None = "k") -> int:
        return await self.tiers.left(self.scope, name)

    async def lose(self, name: str | None = "k") -> None:
        await self.tiers.drop(self.scope, name)


@pytest.fixture
async def clocked(sqlite_url: str) -> AsyncIterator[Clocked]:
    made = Clocked(sqlite_url)
    yield made
    await made.store.aclose()


@pytest.mark.every_backend
class TestByTheClock:
    @pytest.mark.parametrize("lost", [False, True])
    async def test_an_entry_is_valid_for_its_ttl_and_no_longer(self, clocked: Clocked, lost: bool) -> None:
        space = clocked.cache().namespace("n")
        await space.set("k", 1, ttl=100)
        for passed, expected in ((0, 1), (99.9, 1), (100, MISSING), (1000, MISSING)):
            clocked.now = 1000 + passed
            if lost:
                await clocked.lose()
            assert await space.get("k", MISSING) == expected
            assert await space.get_many(["k"]) == ({} if expected is MISSING else {"k": 1})

    async def test_what_is_promoted_lives_as_long_as_is_left_of_it(self, clocked: Clocked) -> None:
        space = clocked.cache().namespace("n")
        await space.set("k", 1, ttl=100)
        clocked.now += 60
        await clocked.lose()
        assert await space.get("k") == 1
        assert await clocked.left() == 40_000
        clocked.now += 39.9
        assert await space.get("k") == 1
        clocked.now += 0.1
        assert await space.get("k") is None

    async def test_time_that_passes_between_commit_and_settle_is_not_added(self, clocked: Clocked) -> None:
        space = clocked.cache().namespace("n")
        committed = clocked.store.stop("write", "after")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: space.set("k", 1, ttl=100))
            await committed.reached()
            clocked.now += 30
            committed.open()
        assert await clocked.left() == 70_000

    async def test_time_that_passes_between_read_and_promotion_is_not_added(self, clocked: Clocked) -> None:
        space = clocked.cache().namespace("n")
        await space.set("k", 1, ttl=100)
        await clocked.lose()
        read = clocked.store.stop("read", "after")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(space.get, "k")
            await read.reached()
            clocked.now += 30
            read.open()
        assert await clocked.left() == 70_000

    async def test_an_entry_that_expired_on_its_way_is_not_promoted(self, clocked: Clocked) -> None:
        space = clocked.cache().namespace("n")
        await space.set("k", 1, ttl=20)
        await clocked.lose()
        read = clocked.store.stop("read", "after")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(space.get, "k")
            await read.reached()
            clocked.now += 20
            read.open()
        assert await clocked.left() < 0
        assert await space.get("k") is None

    async def test_setting_again_counts_anew_whatever_the_ttl_was(self, clocked: Clocked) -> None:
        space = clocked.cache().namespace("n")
        for ttl in (1, 100, 0.5, None, 2):
            await space.set("k", ttl, ttl=ttl)
            clocked.now += 0.4
            assert await space.get("k") == ttl
        clocked.now += 2
        assert await space.get("k", MISSING) is MISSING
        await space.set("k", "again")
        clocked.now += 10_000
        assert await space.get("k") == "again"

    async def test_the_nearest_ttl_counts_call_before_namespace_before_cache(self, clocked: Clocked) -> None:
        cache = clocked.cache(ttl=10, front_ttl=10_000, front_ttl_jitter=0)
        views = {
            "cache": cache.namespace("n"),
            "namespace": cache.namespace("n", ttl=20),
            "inherited": cache.namespace(ttl=20).namespace("n"),
            "never": cache.namespace("n", ttl=None),
        }
        for name, view in views.items():
            await view.set(name, 1)
        await views["namespace"].set("call", 1, ttl=30)
        await views["namespace"].set_many({"call never": 1}, ttl=None)
        expected = {"cache": 10, "namespace": 20, "inherited": 20, "never": 10_000, "call": 30, "call never": 10_000}
        assert {name: await clocked.left(name) for name in expected} == {n: s * 1000 for n, s in expected.items()}

    async def test_cells_written_together_expire_apart_within_the_jitter(self, clocked: Clocked) -> None:
        space = clocked.cache(front_ttl=100, front_ttl_jitter=0.2).namespace("n")
        await space.set_many({str(i): i for i in range(200)})
        left = [await clocked.left(str(i)) for i in range(200)]
        assert 80_000 <= min(left) < 85_000
        assert 95_000 < max(left) <= 100_000

    async def test_without_jitter_a_cell_stays_for_the_front_ttl(self, clocked: Clocked) -> None:
        space = clocked.cache(front_ttl=100, front_ttl_jitter=0).namespace("n")
        await space.set_many({"short": 1, "k": 1}, ttl=500)
        assert await clocked.left() == 100_000
        clocked.now += 450
        assert await space.get("k") == 1  # gone from the front, and promoted with what is left
        assert await clocked.left() == 50_000

    async def test_marks_and_watermarks_have_lives_of_their_own(self, clocked: Clocked) -> None:
        space = clocked.cache(watermark_ttl=7, mark_ttl=50).namespace("n")
        commit = clocked.store.stop("write", "before")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(space.set, "k", 1)
            await commit.reached()
            assert await clocked.left() == 50_000
            commit.open()
        await space.get("k")
        assert await clocked.left(None) == 7000
        clocked.now += 7
        await space.clear()
        assert await clocked.left(None) == 7000

    async def test_the_mark_of_a_writer_that_died_is_gone_after_its_time(self, clocked: Clocked) -> None:
        cache = clocked.cache()
        space = cache.namespace("n")
        clocked.front.fail("settle_write", "before")
        await space.set("k", 1)
        await space.get("k")
        assert (cache.stats().promotions, await space.get("k")) == (0, 1)
        clocked.now += 300
        await space.get("k")
        assert (cache.stats().promotions, await space.get("k")) == (1, 1)


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


async def test_a_cell_never_outlives_its_entry_on_any_tiers(tiers: Tiers) -> None:
    stage = Stage(tiers)
    process = await stage.process()
    assert isinstance(process, OurProcess)
    space = process.cache.namespace(*stage.scope.path)
    await space.set("k", 1, ttl=100)
    assert 50_000 < await tiers.left(stage.scope, "k") <= 100_000
    await stage.drop_cell()
    await stage.drop_watermarks()
    assert await space.get("k") == 1
    assert 50_000 < await tiers.left(stage.scope, "k") <= 100_000
    assert 0 < await tiers.left(stage.scope, None) <= 60_000
    await space.set("k", 2)
    assert 500_000 < await tiers.left(stage.scope, "k") <= 600_000
    await space.set("k", 3, ttl=0.001)
    with anyio.fail_after(20):
        while await space.get("k") is not None:
            await anyio.lowlevel.checkpoint()
    assert await tiers.left(stage.scope, "k") < 0


async def test_nothing_is_ever_left_in_redis_without_an_expiry(redis_url: str, sqlite_url: str) -> None:
    async with TieredCache(redis_url, sqlite_url, **UNHURRIED) as cache:
        space = cache.namespace("a", "b")
        await space.set_many({str(i): i for i in range(50)})
        await space.get_many([str(i) for i in range(60)])
        await cache.namespace("a").clear()
        await space.get_many([str(i) for i in range(60)])
        await space.delete("1")
        await space.set("k", 1)
    with redis_admin(redis_url) as client:
        keys = cast("list[bytes]", client.keys("*"))
        assert keys
        assert all(client.pttl(key) > 0 for key in keys)
