"""The counters: of keys and not of calls, and exact; latencies and batch sizes by kind of exchange."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError

import anyio
import pytest

from tests.doubles import DictStore
from tiered_cache import MemoryFront, RawCodec, Stats, TieredCache
from tiered_cache._stats import Recorder
from tiered_cache.testing import FaultyFront, FaultyStore

pytestmark = pytest.mark.every_backend


def test_a_new_recorder_has_seen_nothing() -> None:
    stats = Recorder().snapshot()
    assert stats == Stats()
    assert (stats.hits, stats.hit_ratio, stats.latency, stats.batch_size) == (0, 0.0, {}, {})


def test_a_snapshot_stays_as_it_is() -> None:
    recorder = Recorder()
    recorder.add("misses")
    before = recorder.snapshot()
    recorder.add("misses", 2)
    assert (before.misses, recorder.snapshot().misses) == (1, 3)
    with pytest.raises(FrozenInstanceError):
        before.misses = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_hits_of_both_tiers_make_the_ratio() -> None:
    stats = Stats(hits_front=5, hits_store=1, misses=2)
    assert (stats.hits, stats.hit_ratio) == (6, 0.75)


def test_percentiles_are_bounds_from_above_and_never_beyond_the_longest() -> None:
    recorder = Recorder()
    for _ in range(98):
        recorder.timed("front_read", 0.001, 1)
    for seconds in (0.2, 0.3):
        recorder.timed("front_read", seconds, 1)
    latency = recorder.snapshot().latency["front_read"]
    assert (latency.count, latency.max) == (100, 0.3)
    assert 0.001 <= latency.p50 < 0.0016
    assert 0.2 <= latency.p99 <= 0.3


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 99.0, 1e6])
def test_durations_beyond_all_bounds_are_counted(seconds: float) -> None:
    recorder = Recorder()
    recorder.timed("store_read", seconds, 3)
    latency = recorder.snapshot().latency["store_read"]
    assert (latency.count, latency.p50, latency.p99, latency.max) == (1, seconds, seconds, seconds)


def test_kinds_of_exchange_are_kept_apart() -> None:
    recorder = Recorder()
    recorder.timed("store_read", 1.0, 10)
    recorder.timed("store_read", 1.0, 20)
    recorder.timed("store_write", 2.0, 3)
    stats = recorder.snapshot()
    assert stats.batch_size == {"store_read": 15.0, "store_write": 3.0}
    assert {kind: latency.max for kind, latency in stats.latency.items()} == {"store_read": 1.0, "store_write": 2.0}
    assert {kind: latency.total for kind, latency in stats.latency.items()} == {"store_read": 2.0, "store_write": 2.0}


def test_no_count_of_any_thread_is_lost() -> None:
    recorder = Recorder()

    def count() -> None:
        for _ in range(2000):
            recorder.add("hits_front")
            recorder.timed("front_read", 0.001, 2)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = recorder.snapshot()
    assert (stats.hits_front, stats.latency["front_read"].count, stats.batch_size["front_read"]) == (16_000, 16_000, 2)


async def test_what_a_cache_did_is_counted_by_key() -> None:
    cache = TieredCache(FaultyFront(MemoryFront()), FaultyStore(DictStore()), front_timeout=20)
    await cache.set_many({"a": 1, "b": 2, "c": 3})
    await cache.get_many(["a", "b", "x", "y", "z"])
    await cache.delete_many(["a", "x"])
    await cache.get("a")
    await cache.namespace("n").clear()
    stats = cache.stats()
    assert (stats.sets, stats.deletes, stats.clears) == (3, 2, 1)
    assert (stats.hits_front, stats.hits_store, stats.misses, stats.promotions) == (2, 0, 4, 0)
    assert (stats.front_errors, stats.store_errors, stats.unmarked, stats.corrupt) == (0, 0, 0, 0)


async def test_equal_keys_asked_at_once_are_counted_for_each_caller() -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=20)
    await cache.set("k", 1)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(cache.get, "k")
            tasks.start_soon(cache.get, "absent")
    stats = cache.stats()
    assert (stats.hits_front, stats.misses) == (10, 10)


async def test_promotions_and_hits_of_the_store_are_told_apart() -> None:
    front, store = MemoryFront(), DictStore()
    await TieredCache(front, store).set_many({"a": 1, "b": 2})
    await front.aclose()  # forgets everything
    cache = TieredCache(FaultyFront(front), store, front_timeout=20)
    await cache.get_many(["a", "b", "x"])
    await cache.get_many(["a", "b", "x"])
    stats = cache.stats()
    assert (stats.hits_store, stats.hits_front, stats.promotions, stats.misses) == (2, 2, 2, 2)
    assert stats.hit_ratio == 4 / 6


async def test_a_payload_that_cannot_be_read_is_a_miss_and_no_hit() -> None:
    cache = TieredCache(MemoryFront(), DictStore(), front_timeout=20)
    await cache.set("k", 1)
    assert await cache.namespace(codec=RawCodec()).get("k") is None
    stats = cache.stats()
    assert (stats.corrupt, stats.misses, stats.hits) == (1, 1, 0)
