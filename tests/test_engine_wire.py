"""What goes over the wire: how many exchanges with each tier, alone and among 64, counted one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from tests.doubles import DictStore
from tests.processes import UNHURRIED, unhurried
from tests.servers import redis_calls
from tests.worlds import World
from tiered_cache import MemoryFront, Namespace, TieredCache
from tiered_cache.testing import Call, FaultyFront, FaultyStore

Verb = Callable[[], Coroutine[Any, Any, Any]]

HIT = Counter(get=1)
LOOK_INTO_THE_STORE = Counter(get=1, mark_read=1, read=1, settle_read=1)
WRITE = Counter(mark_write=1, write=1, settle_write=1)
DELETE = Counter(mark_write=1, delete=1, settle_write=1)
CLEAR = Counter(mark_write=1, clear=1, settle_write=1)


class Wire:
    """A cache whose exchanges are counted."""

    def __init__(self, **options: Any) -> None:
        self.inner = MemoryFront()
        self.front = FaultyFront(self.inner)
        self.store = FaultyStore(DictStore())
        self.cache = TieredCache(self.front, self.store, **unhurried(**options))
        self.cache.view.shared.engine.on_change = lambda _: None  # or a clear would set the background to work
        self.space = self.cache.namespace("a", "b")

    async def of(self, *calls: Verb) -> Counter[str]:
        """What these calls, all made at once, send."""
        await self.cache.setup()
        await self.cache.view.shared.engine.inquiries.learn_time()  # once a minute; see test_freshness
        self.cache.view.shared.engine._looks._loops.clear()  # or who was alone before would go first by himself
        self.front.calls.clear()
        self.store.calls.clear()
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call)
        return self.front.counts + self.store.counts

    def keys(self, name: str) -> list[int]:
        return [call.keys for call in (*self.front.calls, *self.store.calls) if call.name == name]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def many(verb: Callable[..., Coroutine[Any, Any, Any]], *more: Any, n: int = 64) -> list[Verb]:
    return [lambda i=i: verb(f"k{i}", *more) for i in range(n)]


@pytest.mark.every_backend
@pytest.mark.parametrize("n", [1, 64])
class TestExchanges:
    async def test_a_hit_is_one_exchange_with_the_front(self, wire: Wire, n: int) -> None:
        await wire.of(*many(wire.space.set, 1, n=n))
        await wire.of(*many(wire.space.get, n=n))  # brings the watermarks
        assert await wire.of(*many(wire.space.get, n=n)) == HIT
        assert wire.keys("get") == [n + 3]
        assert wire.cache.stats().hits_front == 2 * n

    async def test_a_promoted_hit_is_one_statement_more_between_mark_and_settle(self, wire: Wire, n: int) -> None:
        await wire.of(*many(wire.space.set, 1, n=n))
        wire.inner.forget()
        assert await wire.of(*many(wire.space.get, n=n)) == LOOK_INTO_THE_STORE
        assert wire.keys("read") == [n]
        assert wire.keys("mark_read") == wire.keys("settle_read") == [n + 3]
        assert await wire.of(*many(wire.space.get, n=n)) == HIT

    async def test_a_miss_costs_what_a_promoted_hit_does(self, wire: Wire, n: int) -> None:
        for _ in range(2):
            assert await wire.of(*many(wire.space.get, n=n)) == LOOK_INTO_THE_STORE
        assert wire.keys("mark_read") == [n]

    async def test_a_write_is_one_transaction_between_mark_and_settle(self, wire: Wire, n: int) -> None:
        assert await wire.of(*many(wire.space.set, 1, n=n)) == WRITE
        assert wire.keys("mark_write") == wire.keys("write") == wire.keys("settle_write") == [n]

    async def test_a_delete_is_one_transaction_between_mark_and_settle(self, wire: Wire, n: int) -> None:
        await wire.of(*many(wire.space.set, 1, n=n))
        assert await wire.of(*many(wire.space.delete, n=n)) == DELETE
        assert wire.keys("delete") == [n]

    async def test_a_clear_is_one_row_whatever_the_namespace_holds(self, wire: Wire, n: int) -> None:
        await wire.of(*many(wire.space.set, 1, n=n * 20))
        assert await wire.of(wire.space.clear) == CLEAR
        assert wire.keys("mark_write") == wire.keys("settle_write") == [1]

    async def test_get_many_and_set_many_cost_what_one_costs(self, wire: Wire, n: int) -> None:
        items = {f"k{i}": i for i in range(n)}
        assert await wire.of(lambda: wire.space.set_many(items)) == WRITE
        assert await wire.of(lambda: wire.space.get_many(items)) == LOOK_INTO_THE_STORE  # for the watermarks
        assert await wire.of(lambda: wire.space.get_many(items)) == HIT
        assert await wire.of(lambda: wire.space.delete_many(items)) == DELETE


@pytest.mark.every_backend
class TestSharing:
    async def test_equal_keys_are_asked_for_once(self, wire: Wire) -> None:
        await wire.space.set("k", 1)
        await wire.space.get("k")
        assert await wire.of(*[lambda: wire.space.get("k")] * 64) == HIT
        assert wire.keys("get") == [1 + 3]
        wire.inner.forget()
        await wire.of(*[lambda: wire.space.get("k")] * 64)
        assert wire.keys("read") == [1]

    async def test_equal_keys_are_written_once_with_one_of_the_values(self, wire: Wire) -> None:
        assert await wire.of(*[lambda i=i: wire.space.set("k", i) for i in range(64)]) == WRITE
        assert wire.keys("write") == [1]
        assert await wire.space.get("k") in range(64)

    async def test_namespaces_share_exchanges_and_the_watermarks_above_them(self, wire: Wire) -> None:
        spaces = [wire.cache.namespace("a", str(i)) for i in range(32)]
        assert await wire.of(*[lambda space=space: space.set("k", 1) for space in spaces]) == WRITE
        assert await wire.of(*[lambda space=space: space.get("k") for space in spaces]) == LOOK_INTO_THE_STORE
        assert wire.keys("get") == [32 + 32 + 2]

    async def test_a_crowd_is_split_into_batches_of_the_size_that_was_set(self) -> None:
        wire = Wire(batch_items=100, batches_in_flight=2)
        await wire.of(*many(wire.space.set, 1, n=1000))
        assert sum(wire.keys("write")) == 1000
        assert max(wire.keys("write")) <= 100
        await wire.of(*many(wire.space.get, n=1000))
        sent = await wire.of(*many(wire.space.get, n=1000))
        assert sent == Counter(get=10)
        assert wire.cache.stats().hits_front >= 1000

    async def test_keys_of_one_batch_go_different_ways(self, wire: Wire) -> None:
        """One in the front, one in the store alone, one nowhere, one below its watermark."""
        await wire.space.set_many({"front": 1, "store": 2})
        below = wire.space.namespace("below")
        await below.set("cleared", 3)
        await below.get("cleared")
        await below.clear()
        await drop(wire, wire.space, "store")
        results: dict[str, Any] = {}

        async def get(space: Namespace, name: str) -> None:
            results[name] = await space.get(name)

        sent = await wire.of(
            *[lambda name=name: get(wire.space, name) for name in ("front", "store", "absent")],
            lambda: get(below, "cleared"),
        )
        assert results == {"front": 1, "store": 2, "absent": None, "cleared": None}
        assert sent == LOOK_INTO_THE_STORE
        assert wire.store.calls == [Call("read", 3)]

    async def test_the_store_is_made_ready_once(self, wire: Wire) -> None:
        for _ in range(3):
            await wire.of(*many(wire.space.get), wire.space.clear)
        assert wire.store.count("setup") == 0
        fresh = Wire()
        await fresh.space.get("k")
        await fresh.space.set("k", 1)
        assert fresh.store.count("setup") == 1

    async def test_a_cancelled_leader_of_reads_loses_nobody(self) -> None:
        wire = Wire(batches_in_flight=1)
        items = {f"k{i}": i for i in range(20)}
        await wire.space.set_many(items)
        wire.inner.forget()
        busy, read = wire.store.stop("read", "before"), wire.store.stop("read", "before")
        found: dict[str, int] = {}

        async def get(name: str) -> None:
            found[name] = await wire.space.get(name)

        async with anyio.create_task_group() as others, anyio.create_task_group() as leader:
            others.start_soon(wire.space.get, "busy")
            await busy.reached()
            leader.start_soon(wire.space.get, "k0")
            await anyio.wait_all_tasks_blocked()
            for name in items:
                others.start_soon(get, name)
            await anyio.wait_all_tasks_blocked()
            busy.open()
            await read.reached()
            leader.cancel_scope.cancel()
        assert found == items

    async def test_a_cancelled_leader_of_writes_loses_nobody_and_writes_nothing_twice(self) -> None:
        wire = Wire(batches_in_flight=1)
        await wire.cache.setup()
        busy, commit = wire.store.stop("write", "before"), wire.store.stop("write", "before")
        written: list[str] = []

        async def put(name: str) -> None:
            await wire.space.set(name, name)
            written.append(name)

        async with anyio.create_task_group() as others, anyio.create_task_group() as leader:
            others.start_soon(put, "busy")
            await busy.reached()
            leader.start_soon(put, "led")
            await anyio.wait_all_tasks_blocked()
            for i in range(20):
                others.start_soon(put, f"k{i}")
            await anyio.wait_all_tasks_blocked()
            busy.open()
            await commit.reached()
            leader.cancel_scope.cancel()
            commit.open()
        assert set(written) >= {"busy", *(f"k{i}" for i in range(20))}
        assert wire.keys("write") == [1, 21]
        assert await wire.space.get("led") == "led"


async def drop(wire: Wire, space: Namespace, name: str) -> None:
    prefix = await wire.cache.view.shared.engine.access.open()
    wire.inner._drop(prefix + space.view.scope.key(name).digest.hex().encode())


@pytest.mark.parametrize("world", ["servers"], indirect=True)
async def test_on_redis_a_hit_is_one_mget_and_a_clear_scans_nothing(world: World) -> None:
    async with TieredCache(world.front, world.store, **UNHURRIED) as cache:
        space = cache.namespace("a")
        await space.set_many({f"k{i}": i for i in range(300)})
        await space.get("k1")
        before = redis_calls(world.front)
        await space.get("k1")
        await space.get_many([f"k{i}" for i in range(300)])
        after = redis_calls(world.front) - before
        assert (after["MGET"], after["EVALSHA"], after["EVAL"], after["GET"]) == (2, 0, 0, 0)

        before = redis_calls(world.front)
        await space.clear()
        after = redis_calls(world.front) - before
        assert after["EVALSHA"] + after["EVAL"] == 2
        assert after["SET"] + after["DEL"] <= 2
        assert not after.keys() & {"KEYS", "SCAN", "FLUSHDB", "FLUSHALL", "UNLINK"}
