"""Opening, closing, sharing and making ready; and that a cache never changes what happens to its caller."""

from __future__ import annotations

import gc
import logging
from concurrent.futures import Future
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.doubles import DictStore
from tests.processes import UNHURRIED, unhurried
from tests.servers import left_open
from tests.test_fork import in_a_child
from tests.worlds import World
from tiered_cache import (
    MISSING,
    ConfigurationError,
    Front,
    MemoryFront,
    SchemaError,
    Store,
    StoreUnavailableError,
    TieredCache,
)
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore, Gate


def cache(front: Front | None = None, store: Store | str | None = None, **options: Any) -> TieredCache:
    return TieredCache(front or MemoryFront(), store or DictStore(), **unhurried(**options))


@pytest.mark.every_backend
class TestAsyncWith:
    async def test_it_makes_the_store_ready_and_closes_what_the_cache_opened(self, sqlite_url: str) -> None:
        async with cache(store=sqlite_url) as inside:
            await inside.set("k", 1)
        assert await inside.get("k") == 1
        await inside.aclose()
        async with inside as again:
            assert again is inside
            assert await again.get("k") == 1

    async def test_what_the_caller_made_stays_open(self) -> None:
        front = MemoryFront()
        async with cache(front) as inside:
            await inside.set("k", 1)
        assert front.bytes_held > 0

    async def test_it_cannot_be_entered_twice_not_even_at_the_same_time(self) -> None:
        store = FaultyStore(DictStore())
        shared = cache(store=store)
        making = store.stop("setup", "before")
        async with anyio.create_task_group() as tasks:

            async def enter() -> None:
                async with shared:
                    await leave.wait()

            leave = Gate()
            tasks.start_soon(enter)
            await making.reached()
            with pytest.raises(ConfigurationError, match="async with"):
                await shared.__aenter__()
            making.open()
            await leave.reached()
            with pytest.raises(ConfigurationError, match="async with"):
                await shared.__aenter__()
            leave.open()
        async with shared:
            assert await shared.get("k") is None

    async def test_an_exception_of_the_caller_comes_out_as_it_was(self) -> None:
        error = LookupError("the caller's own")
        with pytest.raises(LookupError) as caught:
            async with cache():
                raise error
        assert caught.value is error
        with pytest.raises(KeyboardInterrupt):
            async with cache():
                raise KeyboardInterrupt

    async def test_a_cancelled_caller_leaves_it_cancelled(self) -> None:
        reached: list[str] = []
        shared = cache()
        with anyio.CancelScope() as scope:
            async with shared:
                scope.cancel()
                await anyio.sleep_forever()
            reached.append("after")
        assert scope.cancelled_caught
        assert not reached
        async with shared:
            await shared.set("k", 1)

    async def test_a_store_that_cannot_be_made_ready_leaves_it_closed(self) -> None:
        store = FaultyStore(DictStore())
        shared = cache(store=store)
        store.down = True
        with pytest.raises(StoreUnavailableError):
            async with shared:
                raise AssertionError("entered")
        store.down = False
        async with shared:
            assert await shared.get("k") is None

    async def test_background_work_that_fails_ends_nobody_elses(self) -> None:
        store = FaultyStore(DictStore())
        async with cache(store=store, reclaim_interval=0.001) as inside:
            for error in (StoreUnavailableError("away"), SchemaError("of a newer release")):
                store.fail("reclaim", "before", error)
            gate = store.stop("reclaim", "before")
            await gate.reached()
            gate.open()
            await inside.set("k", 1)
            assert await inside.get("k") == 1
            assert inside.stats().store_errors == 2

    async def test_expired_and_cleared_rows_are_reclaimed_within_it(self) -> None:
        rows = DictStore()
        store = FaultyStore(rows)
        async with cache(store=store, reclaim_interval=0.001, reclaim_rows=3) as inside:
            await inside.namespace("n").set_many({str(i): i for i in range(10)})
            await inside.set("k", 1)
            await inside.namespace("n").clear()
            for _ in range(5):  # 3, 3, 3, 1, and one that finds nothing: the one before has begun after the clear
                gate = store.stop("reclaim", "before")
                await gate.reached()
                gate.open()
            assert len(rows.rows) == 1
            assert await inside.get("k") == 1
        assert inside.stats().reclaimed == 10


@pytest.mark.every_backend
class TestSetup:
    async def test_in_the_background_reads_miss_until_the_store_is_ready(self, sqlite_url: str) -> None:
        shared = cache(store=sqlite_url, setup="background")
        assert await shared.get("k", MISSING) is MISSING
        assert shared.stats().misses == 1
        await shared.set("k", 1)
        assert await shared.get("k") == 1

    async def test_in_the_background_it_becomes_ready_whatever_loop_the_first_reader_ran_on(
        self, sqlite_url: str
    ) -> None:
        shared = cache(store=sqlite_url, setup="background")
        assert await shared.get("k", MISSING) is MISSING
        opening = shared.view.shared.engine.access._opening
        assert opening is not None
        assert await anyio.to_thread.run_sync(opening.result, 20)

    async def test_in_the_background_a_failure_is_logged_and_tried_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = FaultyStore(DictStore())
        shared = cache(store=store, setup="background")
        store.fail("setup", "before", StoreUnavailableError("away"))
        store.fail("setup", "before", SchemaError("of a newer release"))
        with caplog.at_level(logging.WARNING, "tiered_cache"), anyio.fail_after(20):
            while shared.stats().store_errors < 2:
                assert await shared.get("k", MISSING) is MISSING
        assert "away" in caplog.text
        with anyio.fail_after(20):
            while shared.view.shared.engine.access.prefix is None:
                assert await shared.get("k", MISSING) is MISSING
        await shared.set("k", 1)
        assert await shared.get("k") == 1

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
    def test_in_the_background_of_a_parent_means_nothing_to_a_forked_child(self) -> None:
        store = FaultyStore(DictStore())
        shared = cache(store=store, setup="background")
        access = shared.view.shared.engine.access
        access._opening = Future()  # whoever is to fulfil it is a thread of the parent

        def child() -> None:
            while access.prefix is None:
                assert shared.sync.get("k", MISSING) is MISSING
            assert store.count("setup") == 1

        assert shared.sync.get("k", MISSING) is MISSING
        in_a_child(child)
        assert access.prefix is None

    async def test_never_means_that_missing_tables_are_an_error_that_says_what_to_do(self, sqlite_url: str) -> None:
        shared = cache(store=sqlite_url, setup="never")
        for call in (shared.get("k"), shared.set("k", 1), shared.setup()):
            with pytest.raises(SchemaError, match="ddl"):
                await call
        await cache(store=sqlite_url).setup()
        await shared.set("k", 1)
        assert await shared.get("k") == 1


@pytest.mark.every_backend
class TestSharing:
    async def test_caches_over_the_same_tiers_see_what_each_other_writes(self, sqlite_url: str) -> None:
        front = MemoryFront()
        one, other = cache(front, sqlite_url), cache(front, sqlite_url)
        await one.set("k", 1)
        assert await other.get("k") == 1
        await other.set("k", 2)
        assert await one.get("k") == 2
        await one.clear()
        assert await other.get("k") is None
        assert one.stats().hits_front + other.stats().hits_front == 2

    async def test_two_stores_never_share_a_cell_of_one_front(self, sqlite_url: str, tmp_path: Any) -> None:
        front = MemoryFront()
        caches = [
            cache(front, sqlite_url),
            cache(front, f"sqlite:///{tmp_path / 'other.db'}"),
            cache(front, sqlite_url, table_prefix="other_"),
            cache(front, SqlStore("sqlite://")),
        ]
        for i, each in enumerate(caches):
            await each.set("k", i)
        for _ in range(2):
            assert [await each.get("k") for each in caches] == [0, 1, 2, 3]
        await caches[0].clear()
        assert [await each.get("k") for each in caches] == [None, 1, 2, 3]

    async def test_prefixes_keep_caches_apart_in_the_front_and_not_in_the_store(self, sqlite_url: str) -> None:
        front = MemoryFront()
        one, other = cache(front, sqlite_url, prefix="one"), cache(front, sqlite_url, prefix="other")
        await one.set("k", 1)
        assert await other.get("k") == 1
        assert (other.stats().hits_store, other.stats().hits_front) == (1, 0)

    async def test_somebody_elses_front_and_store_are_taken(self) -> None:
        front, store = FaultyFront(MemoryFront()), FaultyStore(DictStore())
        async with cache(front, store) as shared:
            await shared.set("k", 1)
            assert await shared.get("k") == 1
        assert front.counts["get"] == store.counts["write"] == 1

    async def test_embedded_caches_of_one_process_share_their_front(self, sqlite_url: str) -> None:
        one, other = TieredCache("memory://", sqlite_url), TieredCache(None, sqlite_url)
        await one.set("k", 1)
        await one.aclose()
        assert await other.get("k") == 1
        assert other._front is one._front


@pytest.mark.every_backend
async def test_erasing_does_its_work_itself() -> None:
    """The background would take part in it, and the number of rows be wrong."""
    front, store = MemoryFront(), FaultyStore(DictStore())
    shared = cache(front, store)
    space = shared.namespace("n")
    await space.set_many({str(i): "secret" for i in range(10)})
    assert await space.erase() == 10
    assert store.count("reclaim") == 0
    assert not [cell for cell in front._cells.values() if b"secret" in cell.content]


async def test_nothing_of_a_password_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        secretive = TieredCache(
            "redis://user:hunter2@127.0.0.1:1/0",
            "postgresql+asyncpg://user:hunter2@127.0.0.1:1/app",
            store_timeout=5,
        )
        said = [repr(secretive)]
        with pytest.raises(StoreUnavailableError) as caught:
            await secretive.get("k")
        said += [str(caught.value), repr(caught.value)]
        for front, store in (
            ("redis://user:hunter2@host:port/0", "sqlite://"),
            ("redis://user:hunter2@[/0", "sqlite://"),
            ("memory://", "postgresql+nothing://user:hunter2@host/app"),
            ("memory://", "postgresql://user:hunter2@host:port/app"),
        ):
            with pytest.raises((ConfigurationError, ImportError)) as refused:
                TieredCache(front, store)
            said += [str(refused.value), repr(refused.value)]
    assert "hunter2" not in "".join(said) + caplog.text


async def test_the_synchronous_verbs_do_what_their_namesakes_do(world: World) -> None:
    shared = TieredCache(world.front, world.store, **UNHURRIED)

    def use() -> None:
        space = shared.namespace("n", listed=True).sync
        space.set("a", 1)
        space.set_many({"b": None, "c": (1, b"2")}, ttl=60)
        assert space.get("a") == 1
        assert space.get("absent", "default") == "default"
        assert space.get_many(key for key in ("a", "b", "c", "d")) == {"a": 1, "b": None, "c": (1, b"2")}
        assert sorted(space.keys()) == ["a", "b", "c"]
        space.delete("a")
        space.delete_many(key for key in ("b",))
        assert space.get_many(["a", "b", "c"]) == {"c": (1, b"2")}
        assert space.get_or_compute("e", lambda: [1]) == [1]
        assert space.get_or_compute("e", lambda: [2]) == [1]
        assert space.erase() == 2
        space.set("a", 1)
        space.clear()
        assert space.get("a") is None
        with pytest.raises(ConfigurationError):
            space.set("a", 1, ttl=0)
        shared.close()

    await anyio.to_thread.run_sync(use)
    use()  # on a thread that runs a loop
    await shared.aclose()


async def test_closing_right_after_a_clear_leaves_no_connection(postgres_url: str) -> None:
    """Which has set the background to work, on another loop."""
    for _ in range(5):
        shared = TieredCache("memory://", postgres_url, **UNHURRIED)
        await shared.set("k", 1)
        await shared.clear()
        await shared.aclose()
    gc.collect()
    assert left_open(postgres_url) == 0
