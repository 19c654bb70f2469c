"""`get_or_compute`: of all who ask at once, in any loop and any thread, one computes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count, islice
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.doubles import PATIENCE_SECONDS, Computation, DictStore, Gate, WatchedFront, WatchedStore, When
from tiered_cache import ConfigurationError, MemoryFront, StoreUnavailableError, TieredCache, UnsupportedValueError
from tiered_cache._flights import _counter

pytestmark = pytest.mark.every_backend


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore(DictStore())


@pytest.fixture
def cache(store: WatchedStore) -> TieredCache:
    return TieredCache(WatchedFront(MemoryFront()), store, front_timeout=PATIENCE_SECONDS)


async def gather(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Results and exceptions, in the order of the calls."""
    results: list[Any] = [None] * len(calls)

    async def run(i: int) -> None:
        try:
            results[i] = await calls[i]()
        except Exception as error:  # noqa: BLE001  (the tests look at them)
            results[i] = error

    async with anyio.create_task_group() as tasks:
        for i in range(len(calls)):
            tasks.start_soon(run, i)
    return results


async def gather_round(compute: Computation, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """The same, where the computation lasts until all the others wait for it."""
    results: list[Any] = []
    compute.gate = gate = Gate()

    async def run() -> None:
        results.extend(await gather(*calls))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await gate.reached()
        await anyio.wait_all_tasks_blocked()
        gate.open()
    return results


async def until(reached: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not reached():
            await anyio.lowlevel.checkpoint()


async def test_of_many_who_ask_at_once_one_computes_and_each_has_an_object_of_its_own(cache: TieredCache) -> None:
    compute = Computation({"a": [1, 2]})
    results = await gather(*[lambda: cache.get_or_compute("k", compute)] * 50)
    assert results == [{"a": [1, 2]}] * 50
    assert len({id(result) for result in results}) == 50
    assert compute.runs == 1
    stats = cache.stats()
    assert (stats.computed, stats.joined, stats.sets) == (1, 49, 1)


async def test_a_value_that_is_there_is_not_computed_even_where_it_is_none(cache: TieredCache) -> None:
    await cache.set("k", None)
    compute = Computation("never")
    assert await cache.get_or_compute("k", compute) is None
    assert compute.runs == 0


async def test_a_result_is_stored_under_the_ttl_that_was_given(cache: TieredCache, store: WatchedStore) -> None:
    space = cache.namespace("n", ttl=7)
    await space.get_or_compute("own", Computation())
    await space.get_or_compute("given", Computation(), ttl=9)
    await space.get_or_compute("none", Computation(), ttl=None)
    assert isinstance(store.inner, DictStore)
    assert [kept.entry.ttl for kept in store.inner.rows.values()] == [7000, 9000, None]
    assert await cache.namespace("n").get_many(["own", "given", "none"]) == dict.fromkeys(
        ["own", "given", "none"], "computed"
    )


async def test_an_error_is_shared_and_nothing_is_stored(cache: TieredCache) -> None:
    error = LookupError("the model is away")
    compute = Computation(error)
    assert await gather_round(compute, *[lambda: cache.get_or_compute("k", compute)] * 10) == [error] * 10
    assert compute.runs == 1
    assert await cache.get_or_compute("k", Computation("later")) == "later"


async def test_a_result_that_cannot_be_stored_is_an_error_for_all(cache: TieredCache) -> None:
    compute = Computation(object())
    results = await gather_round(compute, *[lambda: cache.get_or_compute("k", compute)] * 3)
    assert [type(result) for result in results] == [UnsupportedValueError] * 3
    assert compute.runs == 1


async def test_a_wrong_ttl_is_refused_before_anything_is_computed(cache: TieredCache) -> None:
    compute = Computation()
    with pytest.raises(ConfigurationError):
        await cache.get_or_compute("k", compute, ttl=0)
    with pytest.raises(ConfigurationError):
        await anyio.to_thread.run_sync(lambda: cache.sync.get_or_compute("k", lambda: compute, ttl=-1))
    assert compute.runs == 0


async def test_when_the_one_that_computes_is_cancelled_another_takes_over(cache: TieredCache) -> None:
    first, second = Computation(gate=Gate()), Computation("second")
    results: list[Any] = []

    async def ask(compute: Computation) -> None:
        results.append(await cache.get_or_compute("k", compute))

    async with anyio.create_task_group() as others, anyio.create_task_group() as leader:
        leader.start_soon(ask, first)
        assert first.gate is not None
        await first.gate.reached()
        for _ in range(5):
            others.start_soon(ask, second)
        await until(lambda: cache.stats().misses == 6)
        await anyio.wait_all_tasks_blocked()
        leader.cancel_scope.cancel()
    assert results == ["second"] * 5
    assert (first.runs, second.runs) == (1, 1)


async def test_a_cancelled_waiter_disturbs_nobody(cache: TieredCache) -> None:
    compute = Computation(gate=Gate())
    results: list[Any] = []

    async def ask() -> None:
        results.append(await cache.get_or_compute("k", compute))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        assert compute.gate is not None
        await compute.gate.reached()
        async with anyio.create_task_group() as waiter:
            waiter.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            waiter.cancel_scope.cancel()
        tasks.start_soon(ask)
        compute.gate.open()
    assert results == ["computed"] * 2
    assert compute.runs == 1


async def test_a_call_inside_the_computation_of_the_same_key_computes_too(cache: TieredCache) -> None:
    async def outer() -> str:
        inner = await cache.get_or_compute("k", Computation("inner"))
        return f"outer of {inner}"

    with anyio.fail_after(PATIENCE_SECONDS):
        assert await cache.get_or_compute("k", outer) == "outer of inner"
        assert await cache.get("k") == "outer of inner"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_after_the_computation_costs_nobody_the_result(
    cache: TieredCache, store: WatchedStore, when: When
) -> None:
    await cache.setup()
    store.fail("write", when)
    compute = Computation([when])
    assert await gather_round(compute, *[lambda: cache.get_or_compute("k", compute)] * 3) == [[when]] * 3
    assert compute.runs == 1
    assert cache.stats().store_errors == 1
    store.down = True
    with pytest.raises(StoreUnavailableError):  # who knows whether it was computed already
        await cache.get_or_compute("another", Computation())


async def test_keys_that_are_missing_at_once_never_hold_one_another_up(cache: TieredCache, store: WatchedStore) -> None:
    """While they look into the tiers, a flight ends that is counted together with theirs."""
    await cache.setup()
    digest = cache.view.scope.key("k").digest
    same = _counter(digest)
    digests = ((name, cache.view.scope.key(name).digest) for name in map(str, count()))
    names = list(islice((name for name, each in digests if _counter(each) == same), 10))
    looked = store.stop("read", "after")
    computes = {name: Computation(name) for name in names}
    results: list[Any] = []

    async def ask(name: str) -> None:
        results.append(await cache.get_or_compute(name, computes[name]))

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(ask, name)
            await looked.reached()
            flights = cache.view.shared.flights
            flights.end(digest, flights.join(digest)[0])
            looked.open()
    assert sorted(results) == sorted(names)
    assert {compute.runs for compute in computes.values()} == {1}


async def test_the_end_of_another_keys_flight_costs_no_second_look(cache: TieredCache, store: WatchedStore) -> None:
    await cache.setup()
    looked = store.stop("read", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get_or_compute, "k", Computation())
        await looked.reached()
        await cache.get_or_compute("another", Computation())
        looked.open()
    assert store.count("read") == 2


async def test_a_flight_that_ends_between_looking_and_joining_is_not_repeated(
    cache: TieredCache, store: WatchedStore
) -> None:
    """One has looked and found nothing; before it can join, another has computed and stored the value."""
    await cache.setup()
    looked = store.stop("read", "after")
    late = Computation("late")
    results: list[Any] = []

    async def ask() -> None:
        results.append(await cache.get_or_compute("k", late))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await looked.reached()
        assert await cache.get_or_compute("k", Computation("early")) == "early"
        looked.open()
    assert results == ["early"]
    assert late.runs == 0
