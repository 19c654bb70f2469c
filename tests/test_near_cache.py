"""Caches that hold near what they have read: what they see of each other, of themselves, and when."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import pytest
import redis.asyncio

from tests.servers import connections, left_open, redis_admin
from tests.tracked import Tracked, tracked
from tests.waiting import until
from tiered_cache import MISSING, ConfigurationError, MemoryFront, TieredCache
from tiered_cache._clock import elapsed
from tiered_cache._near import NearFront
from tiered_cache._options import OptionsDict
from tiered_cache._redis import RedisFront
from tiered_cache._shelf import Shelf
from tiered_cache.testing import SlowProxy

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def near_of(cache: TieredCache) -> NearFront:
    assert isinstance(cache._front, NearFront)
    return cache._front


async def warm(cache: TieredCache, *keys: str) -> None:
    """Returns once reading these asks nobody."""
    space = cache.namespace("n")
    while True:
        before = cache.stats().hits_near
        await space.get_many(keys)
        if cache.stats().hits_near == before + len(keys):
            return
        await anyio.sleep(0.005)


class Two(NamedTuple):
    """A reader with a near tier, the front below it, the road by which news comes to it; and another process."""

    reader: TieredCache
    writer: TieredCache
    inner: Tracked
    road: SlowProxy


@asynccontextmanager
async def two(redis_url: str, sqlite_url: str, **given: Any) -> AsyncGenerator[Two]:
    async with tracked(redis_url, **given) as (front, inner, road):
        reader = TieredCache(front, sqlite_url, front_timeout=5)
        front._note = partial(reader.view.shared.recorder.add, "hits_near")
        writer = TieredCache(redis_url, sqlite_url, near_bytes=MIB, front_timeout=5)
        try:
            yield Two(reader, writer, inner, road)
        finally:
            await writer.aclose()
            await reader.aclose()


async def test_hits_near_are_counted_and_ask_nobody(redis_url: str, sqlite_url: str) -> None:
    async with two(redis_url, sqlite_url) as (reader, _, inner, _):
        space = reader.namespace("n")
        await space.set_many({"a": 1, "b": 2})
        await warm(reader, "a", "b")
        before, asked = reader.stats(), inner.asked
        for _ in range(5):
            assert await space.get_many(["a", "b"]) == {"a": 1, "b": 2}
        after = reader.stats()
        assert (after.hits_near - before.hits_near, after.hits_front - before.hits_front) == (10, 10)
        assert (after.hits_store, inner.asked) == (before.hits_store, asked)


async def test_what_one_changes_the_other_sees(redis_url: str, store_url: str) -> None:
    options = OptionsDict(near_bytes=MIB, front_timeout=5)
    async with (
        TieredCache(redis_url, store_url, **options) as one,
        TieredCache(redis_url, store_url, **options) as other,
    ):
        here, there = one.namespace("n"), other.namespace("n")
        for n in range(10):
            await here.set("k", n)
            assert await here.get("k") == n, "its own change, at once"
            await see(there, n)
            await warm(other, "k")
            await there.delete("k")
            assert await there.get("k", MISSING) is MISSING
            await see(here, MISSING)
            await there.set("k", -n)
            await see(here, -n)
            await warm(one, "k")
            await other.clear()
            await see(here, MISSING)


async def see(space: Any, value: Any) -> None:
    """Returns when it is seen; that it is in time is for others to test."""
    deadline = elapsed() + 10
    while await space.get("k", MISSING) != value:
        assert elapsed() < deadline


async def test_its_own_changes_are_seen_at_once_though_no_news_comes(redis_url: str, sqlite_url: str) -> None:
    async with two(redis_url, sqlite_url) as (reader, _, _, road):
        space = reader.namespace("n")
        await space.set("k", 0)
        await warm(reader, "k")
        road.freeze()
        for n in range(1, 10):
            await space.set("k", n)
            assert [await space.get("k") for _ in range(3)] == [n] * 3
        await space.delete("k")
        assert await space.get("k", MISSING) is MISSING
        await space.set("k", 10)
        assert [await space.get("k") for _ in range(3)] == [10] * 3
        await reader.clear()
        assert await space.get("k", MISSING) is MISSING


@pytest.mark.parametrize("what", ["set", "delete", "clear"])
async def test_where_news_is_silent_nothing_older_is_seen_than_the_bound_allows(
    redis_url: str, sqlite_url: str, what: str
) -> None:
    """By the clock on the wall: whoever begins to read a second after the change returned does not see what it was."""
    shown = False
    while not shown:  # else nothing was held any more by the time that the change was made
        shown = await _silent(redis_url, sqlite_url, what)


async def _silent(redis_url: str, sqlite_url: str, what: str) -> bool:
    async with two(redis_url, sqlite_url, staleness=1.0) as (reader, writer, _, road):
        here, there = reader.namespace("n"), writer.namespace("n")
        await there.set("k", "old")
        await warm(reader, "k")
        road.freeze()
        match what:
            case "set":
                await there.set("k", "new")
            case "delete":
                await there.delete("k")
            case _:
                await writer.clear()
        changed = elapsed()
        older = [changed]
        while elapsed() < changed + 2.0:
            began = elapsed()
            if await here.get("k", MISSING) == "old":
                older.append(began)
            await anyio.sleep(0.002)
        assert max(older) - changed <= 1.0
        return len(older) > 1


async def test_under_news_that_is_late_and_in_pieces_nobody_reads_what_is_older_than_the_bound(
    redis_url: str, sqlite_url: str
) -> None:
    bound = 0.3
    async with two(redis_url, sqlite_url, staleness=bound) as (reader, writer, _, road):
        here, there = reader.namespace("n"), writer.namespace("n")
        written: list[float] = []  # when 0, 1, 2 ... had been written
        over = anyio.Event()

        async def write() -> None:
            until_then = elapsed() + 3.0
            while elapsed() < until_then:
                await there.set("k", len(written))
                written.append(elapsed())
                await anyio.sleep(0.01)
            over.set()

        async def read() -> None:
            while not over.is_set():
                began = elapsed()
                value = await here.get("k", -1)
                assert value + 1 >= len(written) or written[value + 1] > began - bound, "overwritten long ago"
                await anyio.sleep(0.001)

        road.delay(0.0, 0.2, split=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(read)
        road.restore()
        assert len(written) > 20
        assert reader.stats().hits_near > 0


async def test_a_value_computed_while_another_process_cleared_is_not_stored_though_no_news_came(
    redis_url: str, sqlite_url: str
) -> None:
    """It would stay for good: whoever decides what to store is not answered near."""
    async with two(redis_url, sqlite_url) as (reader, writer, _, road):
        here, there = reader.namespace("n"), writer.namespace("n")
        await here.set("other", 1)
        await warm(reader, "other")
        road.freeze()

        async def compute() -> str:
            await writer.clear()
            return "from before"

        assert await here.get_or_compute("k", compute) == "from before"
        assert reader.stats().overtaken == 1
        assert await there.get("k", MISSING) is MISSING


async def test_a_flight_in_another_process_is_waited_for(redis_url: str, sqlite_url: str) -> None:
    async with two(redis_url, sqlite_url) as (reader, writer, _, _):
        computed: list[str] = []
        started, go_on = anyio.Event(), anyio.Event()

        async def compute() -> str:
            computed.append("there")
            started.set()
            await go_on.wait()
            return "value"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.namespace("n").get_or_compute, "k", compute)
            await started.wait()
            tasks.start_soon(reader.namespace("n").get_or_compute, "k", compute)
            await until(lambda: reader.stats().waited == 1)
            go_on.set()
        assert computed == ["there"]
        assert await reader.namespace("n").get("k") == "value"


async def test_an_audit_finds_nothing(redis_url: str, sqlite_url: str) -> None:
    async with AsyncExitStack() as stack:
        cache = await stack.enter_async_context(TieredCache(redis_url, sqlite_url, near_bytes=MIB, front_timeout=5))
        space = cache.namespace("n")
        await space.set("k", 1)
        await warm(cache, "k")

        async def read() -> None:
            for _ in range(20):
                await space.get("k")
                await anyio.sleep(0.01)

        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(read)
        found = await cache.audit(0.5, ages=(0.1,))
        assert found[0.1].checked > 0
        assert found[0.1].inconsistent == 0


def test_synchronous_callers_in_many_threads_share_it(redis_url: str, sqlite_url: str) -> None:
    cache = TieredCache(redis_url, sqlite_url, near_bytes=MIB, front_timeout=5)
    space = cache.namespace("n")
    space.sync.set("k", 0)
    wrong: list[object] = []

    def read() -> None:
        last = 0
        for _ in range(100):
            value: int = space.sync.get("k")
            if value < last:
                wrong.append((last, value))
            last = value

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(1, 20):
        space.sync.set("k", n)
        assert space.sync.get("k") == n
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.stats().hits_near > 0
    cache.close()
    assert left_open(redis_url) == 0


# --- at the door ------------------------------------------------------------------------------------------------------


async def test_off_it_is_not_there(redis_url: str, sqlite_url: str) -> None:
    async with TieredCache(redis_url, sqlite_url) as cache:
        assert type(cache._front) is RedisFront
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        assert connections(redis_url) == 1
        assert cache.stats().hits_near == 0


async def test_a_ready_made_client_is_taken_and_left_alone(redis_url: str, sqlite_url: str) -> None:
    client: Any = redis.asyncio.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    async with TieredCache(client, sqlite_url, near_bytes=MIB, front_timeout=5) as cache:
        await cache.namespace("n").set("k", 1)
        await warm(cache, "k")
    assert await client.ping()
    await client.aclose()
    assert await anyio.to_thread.run_sync(left_open, redis_url) == 0


@pytest.mark.parametrize("front", ["memory://", None, MemoryFront(), RedisFront("redis://localhost:1")], ids=repr)
def test_it_is_refused_where_there_is_no_redis_to_hold_anything_of(front: Any, sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"near_bytes.*redis://"):
        TieredCache(front, sqlite_url, near_bytes=MIB)


def test_its_settings_reach_it(sqlite_url: str) -> None:
    cache = TieredCache("redis://localhost:1", sqlite_url, near_bytes=12345, near_staleness=0.25, prefix="app")
    front = near_of(cache)
    assert (front.shelf._max_bytes, front.shelf._staleness, front._staleness) == (12345, 0.25, 0.25)
    assert front._prefix == b"app:"
    assert "localhost:1" in repr(cache)


async def test_it_is_told_of_its_own_prefix_alone(redis_url: str, sqlite_url: str) -> None:
    async with TieredCache(redis_url, sqlite_url, near_bytes=MIB, front_timeout=5) as cache:
        await cache.namespace("n").set("k", 1)
        await warm(cache, "k")
        told: list[bytes] = []

        class Told(Shelf):
            def change(self, keys: Sequence[bytes]) -> None:
                told.extend(keys)

        near_of(cache).shelf.__class__ = Told
        with redis_admin(redis_url) as admin:
            for key in ("tiered_cache2:k", "other", "tiered_cache:last"):
                admin.set(key, "V")
        await until(lambda: b"tiered_cache:last" in told)
        assert all(key.startswith(b"tiered_cache:") for key in told)
