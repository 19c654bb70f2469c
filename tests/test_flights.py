"""`get_or_compute`: of all who ask at once, in any loop and any thread, one computes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count, islice
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.doubles import Computation, DictStore
from tests.faulty import cache as cache
from tests.faulty import store as store
from tests.waiting import until
from tiered_cache import MISSING, ConfigurationError, MemoryFront, RawCodec, TieredCache, UnsupportedValueError
from tiered_cache._flights import _counter
from tiered_cache.testing import FaultyStore, Gate, When
from tiered_cache.testing._gates import PATIENCE_SECONDS

pytestmark = pytest.mark.every_backend


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


async def test_a_result_is_stored_under_the_ttl_that_was_given(cache: TieredCache, store: FaultyStore) -> None:
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
    cache: TieredCache, store: FaultyStore, when: When
) -> None:
    await cache.setup()
    store.fail("write", when)
    compute = Computation([when])
    assert await gather_round(compute, *[lambda: cache.get_or_compute("k", compute)] * 3) == [[when]] * 3
    assert compute.runs == 1
    assert cache.stats().store_errors == 1


async def test_while_the_store_is_away_one_computes_for_all_who_ask_at_once(
    cache: TieredCache, store: FaultyStore
) -> None:
    store.down = True
    compute = Computation("paid for")
    assert await gather_round(compute, *[lambda: cache.get_or_compute("k", compute)] * 3) == ["paid for"] * 3
    assert (compute.runs, cache.stats().joined) == (1, 2)


async def test_keys_that_are_missing_at_once_never_hold_one_another_up(cache: TieredCache, store: FaultyStore) -> None:
    """While they look into the tiers, a flight ends that is counted together with theirs."""
    await cache.setup()
    key = cache.view.scope.key("k")
    same = _counter(key.digest)
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
            flights.end(flights.join(key)[0])
            looked.open()
    assert sorted(results) == sorted(names)
    assert {compute.runs for compute in computes.values()} == {1}


async def test_the_end_of_another_keys_flight_costs_no_second_look(cache: TieredCache, store: FaultyStore) -> None:
    await cache.setup()
    looked = store.stop("read", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get_or_compute, "k", Computation())
        await looked.reached()
        await cache.get_or_compute("another", Computation())
        looked.open()
    assert [call.keys for call in store.calls if call.name == "read" and call.keys] == [1, 1]


async def test_a_flight_that_ends_between_looking_and_joining_is_not_repeated(
    cache: TieredCache, store: FaultyStore
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


async def test_a_waiter_whose_codec_cannot_read_the_result_computes_its_own(cache: TieredCache) -> None:
    raw = cache.namespace(codec=RawCodec())
    plain = Computation("text", gate := Gate())
    results: list[Any] = []

    async def ask() -> None:
        results.append(await raw.get_or_compute("k", Computation(b"bytes")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get_or_compute, "k", plain)
        await gate.reached()
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        gate.open()
    assert results == [b"bytes"]


async def test_one_error_raised_to_many_does_not_collect_their_tracebacks(cache: TieredCache) -> None:
    compute = Computation(LookupError("the model is away"))
    results = await gather_round(compute, *[lambda: cache.get_or_compute("k", compute)] * 50)
    frames, traceback = 0, results[0].__traceback__
    while traceback is not None:
        frames, traceback = frames + 1, traceback.tb_next
    assert frames < 20


class TestNobodyWaitsForHimself:
    async def test_two_computations_that_need_one_another_both_end(self, cache: TieredCache) -> None:
        """Each asks for the other's key while the other is computing."""
        both = [anyio.Event(), anyio.Event()]

        def needing(mine: int, other: str) -> Callable[[], Awaitable[str]]:
            async def compute() -> str:
                both[mine].set()
                await both[1 - mine].wait()
                return f"{'ab'[mine]}({await cache.get_or_compute(other, Computation(other))})"

            return compute

        with anyio.fail_after(PATIENCE_SECONDS):
            results = await gather(
                lambda: cache.get_or_compute("a", needing(0, "b")), lambda: cache.get_or_compute("b", needing(1, "a"))
            )
        # Who asks last sees that the other waits for him already, and computes for himself.
        assert sorted(results) in (["a(b(a))", "b(a)"], ["a(b)", "b(a(b))"])

    async def test_nor_do_they_wait_in_a_ring(self, cache: TieredCache) -> None:
        names = ["a", "b", "c", "d"]
        begun = {name: anyio.Event() for name in names}

        def needing(name: str, other: str) -> Callable[[], Awaitable[str]]:
            async def compute() -> str:
                begun[name].set()
                for event in begun.values():
                    await event.wait()
                async with anyio.create_task_group() as tasks:  # a task of the computation is part of it
                    tasks.start_soon(cache.get_or_compute, other, Computation(other))
                return name

            return compute

        with anyio.fail_after(PATIENCE_SECONDS):
            pairs = zip(names, [*names[1:], names[0]], strict=True)
            asking = [lambda n=n, o=o: cache.get_or_compute(n, needing(n, o)) for n, o in pairs]
            assert await gather(*asking) == names

    async def test_what_several_computations_need_is_still_computed_once(self, cache: TieredCache) -> None:
        shared = Computation("shared")

        def outer() -> Awaitable[str]:
            return cache.get_or_compute("shared", shared)

        asking = [lambda i=i: cache.get_or_compute(f"outer {i}", outer) for i in range(10)]
        assert await gather_round(shared, *asking) == ["shared"] * 10
        assert shared.runs == 1


Verb = Callable[[TieredCache], Awaitable[object]]

CHANGES: dict[str, Verb] = {
    "set": lambda cache: cache.namespace("a", "b").set("k", "newer"),
    "delete": lambda cache: cache.namespace("a", "b").delete("k"),
    "clear": lambda cache: cache.namespace("a", "b").clear(),
    "clear above": lambda cache: cache.clear(),
    "erase": lambda cache: cache.namespace("a").erase(),
}


async def naive_get_or_compute(cache: TieredCache, compute: Computation) -> Any:
    """As everybody writes it first."""
    space = cache.namespace("a", "b")
    value = await space.get("k", MISSING)
    if value is MISSING:
        value = await compute()
        await space.set("k", value)
    return value


@pytest.mark.parametrize("change", CHANGES)
class TestOvertaken:
    """The key changes while its value is being computed, from older knowledge."""

    async def computed_round(self, cache: TieredCache, change: str, *, naive: bool) -> Any:
        """What the cache holds in the end."""
        space = cache.namespace("a", "b")
        compute = Computation("older", gate := Gate())

        async def ask() -> None:
            computing = naive_get_or_compute(cache, compute) if naive else space.get_or_compute("k", compute)
            assert await computing == "older"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await gate.reached()
            await CHANGES[change](cache)
            gate.open()
        return await space.get("k", "nothing")

    async def test_the_result_is_returned_and_not_stored(self, cache: TieredCache, change: str) -> None:
        kept = "newer" if change == "set" else "nothing"
        assert await self.computed_round(cache, change, naive=False) == kept

    async def test_the_naive_way_fails_there(self, cache: TieredCache, change: str) -> None:
        assert await self.computed_round(cache, change, naive=True) == "older"

    async def test_who_asks_after_the_change_is_not_given_the_older_result(
        self, cache: TieredCache, change: str
    ) -> None:
        space = cache.namespace("a", "b")
        compute = Computation("older", gate := Gate())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(space.get_or_compute, "k", compute)
            await gate.reached()
            await CHANGES[change](cache)
            again = Computation("again")
            with anyio.fail_after(PATIENCE_SECONDS):
                assert await space.get_or_compute("k", again) == ("newer" if change == "set" else "again")
            gate.open()
        assert await space.get("k") == ("newer" if change == "set" else "again")

    async def test_nor_is_what_was_looked_up_before_the_change_stored_after_it(
        self, cache: TieredCache, store: FaultyStore, change: str
    ) -> None:
        """The one who will compute has looked and found nothing; then the change comes and goes."""
        await cache.setup()
        looked = store.stop("read", "after")
        space = cache.namespace("a", "b")
        results: list[Any] = []

        async def ask() -> None:
            results.append(await space.get_or_compute("k", Computation("computed")))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await looked.reached()
            await CHANGES[change](cache)
            looked.open()
        assert results == ["newer" if change == "set" else "computed"]

    async def test_another_key_is_not_concerned(self, cache: TieredCache, change: str) -> None:
        compute = Computation("mine", gate := Gate())
        other = cache.namespace("c")
        if change == "clear above":
            other = TieredCache(MemoryFront(), DictStore(identity="other")).namespace("c")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.get_or_compute, "k", compute)
            await gate.reached()
            await CHANGES[change](cache)
            gate.open()
        assert await other.get("k") == "mine"
