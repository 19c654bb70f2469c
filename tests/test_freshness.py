"""Freshness as the reader wants it: what is too old for him, what he wants anew, and what he will not pay for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.doubles import Computation, DictStore
from tests.processes import unhurried
from tests.worlds import World
from tiered_cache import (
    MISSING,
    ConfigurationError,
    Entry,
    MemoryFront,
    Namespace,
    NotCachedError,
    PlainCodec,
    StoreUnavailableError,
    TieredCache,
    TieredCacheError,
    freshness,
)
from tiered_cache._cells import seal
from tiered_cache._clock import StoreClock
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore, Gate, ManualClock
from tiered_cache.testing._gates import PATIENCE_SECONDS


class Place:
    """Caches of several processes in one world, with one clock for all stores."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = ManualClock()
        self.stores: list[SqlStore] = []

    def cache(self, **options: Any) -> TieredCache:
        first = not self.stores
        self.stores.append(SqlStore(self.world.store, clock=self.clock))
        front = self.world.front if first else self.world.other_front()
        return TieredCache(front, FaultyStore(self.stores[-1]), clock=self.clock, **unhurried(**options))


@asynccontextmanager
async def opened(world: World) -> AsyncGenerator[Place]:
    place = Place(world)
    yield place
    for store in place.stores:
        await store.aclose()


@pytest.fixture
async def place(world: World) -> AsyncGenerator[Place]:
    async with opened(world) as made:
        yield made


def gated(result: Any) -> tuple[Computation, Gate]:
    gate = Gate()
    return Computation(result, gate), gate


def found(cache: TieredCache) -> tuple[int, int]:
    stats = cache.stats()
    return stats.hits, stats.misses


# --- max_age ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [False, True])
async def test_what_is_too_old_for_one_reader_is_a_counted_miss_and_stays_for_others(place: Place, lost: bool) -> None:
    cache = place.cache()
    await cache.set("k", 1)
    for passed, max_age, expected in ((10, 11, 1), (10, 9.9, MISSING), (50_000, 50_100, 1), (0, 50_000, MISSING)):
        place.clock.advance(passed if max_age != 9.9 else 0)
        if lost:
            place.world.lose_front()
        before = found(cache)
        assert await cache.get("k", MISSING, max_age=max_age) == expected
        hit = expected is not MISSING
        assert found(cache) == (before[0] + hit, before[1] + (not hit))
        assert await cache.get("k") == 1
        with freshness(max_age=max_age):
            assert await cache.get("k", MISSING) == expected
    await cache.aclose()


async def test_each_key_has_an_age_of_its_own(place: Place) -> None:
    cache = place.cache()
    await cache.set("old", 1)
    place.clock.advance(100)
    await cache.set("new", 2)
    place.clock.advance(10)
    names = ["old", "new", "none"]
    assert await cache.get_many(names, max_age=20) == {"new": 2}
    assert await cache.get_many(names, max_age=200) == {"old": 1, "new": 2}
    await cache.set("old", 3)
    assert await cache.get_many(names, max_age=5) == {"old": 3}
    await cache.aclose()


async def test_another_process_sees_the_same_age_and_so_does_a_synchronous_caller(place: Place) -> None:
    one, two = place.cache(), place.cache()
    await one.set("k", 1)
    place.clock.advance(300)
    assert [await two.get("k", max_age=age) for age in (299, 301)] == [None, 1]

    def read() -> list[Any]:
        space = two.sync
        with freshness(max_age=299):
            said = [space.get("k"), space.get_many(["k"]), space.get("k", max_age=301)]
        return [*said, space.get("k", max_age=299), space.get_many(["k"], max_age=301)]

    assert await anyio.to_thread.run_sync(read) == [None, {}, 1, None, {"k": 1}]
    for cache in (one, two):
        await cache.aclose()


async def test_what_an_earlier_release_stored_is_a_hit_and_of_unknown_age(place: Place) -> None:
    cache = place.cache()
    await cache.setup()
    key = cache.view.scope.key("k")
    await place.stores[0].write([Entry(key.digest, key.scope.address, seal(key.digest, PlainCodec.id, b"\x011"))])
    for _ in range(2):
        assert await cache.get("k") == 1
        assert await cache.get("k", max_age=1e9) is None
    assert cache.stats().corrupt == 0
    await cache.set("k", 2)
    assert await cache.get("k", max_age=1) == 2
    await cache.aclose()


async def test_what_is_said_innermost_counts_field_by_field() -> None:
    clock = ManualClock()
    cache = TieredCache(MemoryFront(clock=clock), DictStore(lambda: clock() * 1000), clock=clock)
    await cache.set("k", 1)
    clock.advance(50)
    with freshness(max_age=10):
        assert await cache.get("k") is None
        assert await cache.get("k", max_age=60) == 1
        with freshness(max_age=60):
            assert await cache.get("k") == 1
            with freshness(refresh=True):
                assert await cache.get("k") is None
                with freshness(refresh=False):
                    assert await cache.get("k") == 1
        with freshness(only_if_cached=True):
            assert await cache.get("k") is None
            with pytest.raises(NotCachedError):
                await cache.get_or_compute("k", Computation())
        assert await cache.get("k") is None
    assert await cache.get("k") == 1
    with freshness(refresh=True, max_age=1):
        assert await cache.get_or_compute("k", Computation(2), refresh=False, max_age=60) == 1


async def test_tasks_of_others_are_not_concerned() -> None:
    """They share the batch."""
    clock = ManualClock()
    cache = TieredCache(MemoryFront(clock=clock), DictStore(lambda: clock() * 1000), clock=clock)
    await cache.set("k", 1)
    clock.advance(50)
    seen: dict[str, Any] = {}

    async def read(who: str, **how: Any) -> None:
        with freshness(**how):
            seen[who] = await cache.get("k")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(read, "first", max_age=10))
        tasks.start_soon(partial(read, "anybody"))
        tasks.start_soon(partial(read, "anew", refresh=True))
        tasks.start_soon(partial(read, "patient", max_age=60))
    assert seen == {"first": None, "anybody": 1, "anew": None, "patient": 1}


WRONG: list[dict[str, Any]] = [
    {"max_age": 0},
    {"max_age": -1},
    {"max_age": "1"},
    {"max_age": True},
    {"refresh": 1},
    {"only_if_cached": "no"},
    {"refresh": True, "only_if_cached": True},
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_said_before_anything_is_computed(wrong: dict[str, Any]) -> None:
    cache = TieredCache(MemoryFront(), DictStore())
    computation = Computation()
    with pytest.raises(ConfigurationError), freshness(**wrong):
        pass
    with pytest.raises(ConfigurationError):
        await cache.get_or_compute("k", computation, **wrong)
    with pytest.raises(ConfigurationError):
        cache.sync.get_or_compute("k", lambda: 1, **wrong)
    if "max_age" in wrong:
        with pytest.raises(ConfigurationError):
            await cache.get("k", **wrong)
    assert computation.runs == 0


# --- the clock --------------------------------------------------------------------------------------------------------


class Trusting(StoreClock):
    """As one would write it first: what the store says is true at the moment when it is heard."""

    def learn(self, asked: float, said: int) -> None:
        super().learn(self.tick(), said)


class Watched:
    """Embedded tiers, one clock for all, and a store whose calls can be held up."""

    def __init__(self, kind: Callable[[ManualClock], StoreClock] = StoreClock) -> None:
        self.clock = ManualClock()
        self.front = FaultyFront(MemoryFront(clock=self.clock))
        self.rows = DictStore(lambda: self.clock() * 1000)
        self.store = FaultyStore(self.rows)
        self.cache = TieredCache(self.front, self.store, clock=self.clock, **unhurried())
        self.cache.view.shared.engine.access.clock = kind(self.clock)
        self.cache.view.shared.engine.on_change = lambda _: None


@pytest.mark.every_backend
class TestTheTime:
    async def test_a_reader_is_never_told_that_something_is_younger_than_it_is(self) -> None:
        assert await self._taken_for_young(StoreClock) is False

    async def test_one_who_trusts_the_answer_when_it_comes_is(self) -> None:
        assert await self._taken_for_young(Trusting) is True

    async def _taken_for_young(self, kind: Callable[[ManualClock], StoreClock]) -> bool:
        """Whether what is 40 s old passes for one of 20, where the store's answer was 30 s on its way."""
        watched, reader = Watched(), Watched(kind)
        await watched.cache.set("k", 1)
        reader.clock.advance(10)
        other = TieredCache(watched.front, watched.store, clock=reader.clock, **unhurried())
        other.view.shared.engine.access.clock = kind(reader.clock)
        late = watched.store.stop("now", "after")
        seen: list[Any] = []

        async def read() -> None:
            seen.append(await other.get("k", MISSING, max_age=20))

        watched.clock.advance(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await late.reached()
            watched.clock.advance(30)
            reader.clock.advance(30)
            late.open()
        return seen == [1]

    async def test_the_first_write_says_when_its_value_was_made_before_the_store_was_reached(self) -> None:
        watched = Watched()
        slow = watched.store.stop("setup", "before")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watched.cache.set, "k", 1)
            await slow.reached()
            watched.clock.advance(30)
            slow.open()
        assert await watched.cache.get("k", max_age=29.9) is None
        assert await watched.cache.get("k", max_age=31) == 1

    async def test_a_crowd_that_writes_first_asks_for_the_time_once_and_says_it_all(self) -> None:
        watched = Watched()
        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(watched.cache.set, f"k{n}", n)
        assert len(await watched.cache.get_many([f"k{n}" for n in range(50)], max_age=1)) == 50
        assert watched.store.count("now") == 1
        assert watched.store.count("write") == 1

    async def test_the_time_is_asked_for_once_a_minute_by_those_who_need_it(self) -> None:
        watched = Watched()
        await watched.cache.set("k", 1)
        for _ in range(3):
            watched.clock.advance(100)
            before = watched.store.count("now")
            await watched.cache.get("k")
            assert watched.store.count("now") == before
            for _ in range(3):
                await watched.cache.get("k", max_age=1000)
            assert watched.store.count("now") == before + 1

    async def test_a_process_that_only_reads_needs_no_time(self) -> None:
        watched = Watched()
        await watched.cache.get("k")
        await watched.cache.get_or_compute("k", Computation(), wait=0)
        reader = TieredCache(watched.front, watched.store)
        before = watched.store.count("now")
        assert await reader.get("k") == "computed"
        assert watched.store.count("now") == before

    async def test_a_store_that_does_not_tell_the_time_fails_nobody_and_makes_nothing_young(self) -> None:
        watched = Watched()
        watched.store.fail("now")
        await watched.cache.set("k", 1)
        assert await watched.cache.get("k") == 1
        watched.clock.advance(10)
        assert await watched.cache.get("k", max_age=1e6) is None
        await watched.cache.set("k", 2)
        assert await watched.cache.get("k", max_age=1) == 2

    async def test_while_the_store_is_away_ages_are_told_by_what_it_said_last(self) -> None:
        watched = Watched()
        await watched.cache.set("k", 1)
        await watched.cache.get("k")
        watched.store.down = True
        watched.clock.advance(500)
        assert await watched.cache.get("k", MISSING, max_age=499) is MISSING
        assert await watched.cache.get("k", max_age=502) == 1

    async def test_a_store_that_was_never_reached_makes_a_read_that_wants_an_age_raise_as_any_other(self) -> None:
        watched = Watched()
        watched.store.down = True
        with pytest.raises(StoreUnavailableError):
            await watched.cache.get("k", max_age=1)

    async def test_what_a_clock_that_was_put_back_makes_later_than_now_is_of_unknown_age(self) -> None:
        watched = Watched()
        await watched.cache.set("k", 1)
        watched.rows._clock = lambda: watched.clock() * 1000 - 3_600_000
        watched.clock.advance(61)
        assert await watched.cache.get("k", max_age=1e6) is None
        assert await watched.cache.get("k") == 1


# --- get_or_compute ---------------------------------------------------------------------------------------------------


async def test_what_is_too_old_is_computed_anew_by_one_while_others_go_on_with_it(place: Place) -> None:
    cache = place.cache()
    await cache.set("k", "old")
    place.clock.advance(100)
    assert await cache.get_or_compute("k", Computation("never"), max_age=101) == "old"
    computation, gate = gated("new")
    results: list[Any] = []

    async def ask() -> None:
        results.append(await cache.get_or_compute("k", computation, max_age=50))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask)
        await gate.reached()
        hits = cache.stats().hits_front
        assert await cache.get("k") == "old"
        assert await cache.get_or_compute("k", Computation("never")) == "old"
        assert cache.stats().hits_front == hits + 2
        gate.open()
    assert results == ["new"] * 10
    assert computation.runs == 1
    assert await cache.get("k", max_age=10) == "new"
    await cache.aclose()


@pytest.mark.parametrize("around", [False, True])
async def test_who_wants_it_anew_is_never_given_the_old_value_and_shares_the_new_one(
    place: Place, around: bool
) -> None:
    cache = place.cache()
    space = cache.namespace("n")
    for n in range(3):
        await space.set("k", f"old {n}")
        place.clock.advance(1)
        computation, gate = gated(f"new {n}")
        results: list[Any] = []

        async def ask(computation: Computation = computation, results: list[Any] = results) -> None:
            if around:
                with freshness(refresh=True):
                    results.append(await space.get_or_compute("k", computation))
            else:
                results.append(await space.get_or_compute("k", computation, refresh=True))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
            await gate.reached()
            assert await space.get_or_compute("k", Computation("never")) == f"old {n}"
            gate.open()
        assert results == [f"new {n}"] * 10
        assert computation.runs == 1
        assert await space.get("k") == f"new {n}"
        place.world.lose_front()
        assert await space.get("k") == f"new {n}"
    await cache.aclose()


async def test_a_value_that_is_not_there_is_computed_once_for_who_wants_it_anew_and_who_does_not(place: Place) -> None:
    cache = place.cache()
    computation, gate = gated("new")
    results: list[Any] = []

    async def ask(**how: Any) -> None:
        results.append(await cache.get_or_compute("k", computation, **how))

    async with anyio.create_task_group() as tasks:
        for how in ({}, {"refresh": True}, {"max_age": 5.0}):
            tasks.start_soon(partial(ask, **how))
        await gate.reached()
        gate.open()
    assert results == ["new"] * 3
    assert computation.runs == 1
    await cache.aclose()


@pytest.mark.parametrize("world", ["servers", "fake"], indirect=True)
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("how", [{"refresh": True}, {"max_age": 50.0}], ids=["refresh", "max_age"])
async def test_of_several_processes_one_computes_anew(place: Place, how: dict[str, Any], lost: bool) -> None:
    one, two = place.cache(), place.cache()
    await one.set("k", "old")
    place.clock.advance(100)
    if lost:
        place.world.lose_front()
    computation, gate = gated("new")
    results: list[Any] = []

    async def ask(cache: TieredCache) -> None:
        results.append(await cache.get_or_compute("k", computation, **how))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, one)
        await gate.reached()
        for _ in range(3):
            tasks.start_soon(ask, two)
        await waits(two)
        assert await two.get("k") == "old"
        gate.open()
    assert results == ["new"] * 4
    assert computation.runs == 1
    assert await two.get("k", max_age=10) == "new"
    for cache in (one, two):
        await cache.aclose()


async def waits(cache: TieredCache) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not cache.stats().waited:  # noqa: ASYNC110  (counters tell nobody)
            await anyio.sleep(0.002)


@pytest.mark.parametrize("world", ["servers", "fake"], indirect=True)
@pytest.mark.parametrize("change", ["set", "delete", "clear"])
async def test_what_another_process_changed_meanwhile_is_not_overwritten(place: Place, change: str) -> None:
    one, two = place.cache(), place.cache()
    await one.set("k", "old")
    place.clock.advance(100)
    computation, gate = gated("new")
    results: list[Any] = []

    async def ask() -> None:
        results.append(await one.get_or_compute("k", computation, refresh=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await gate.reached()
        await {"set": partial(two.set, "k", "his"), "delete": partial(two.delete, "k"), "clear": two.clear}[change]()
        gate.open()
    assert results == ["new"]
    assert one.stats().overtaken == 1
    assert await one.get("k") == await two.get("k") == ("his" if change == "set" else None)
    for cache in (one, two):
        await cache.aclose()


@pytest.mark.parametrize("mishap", ["evicted", "expired"])
async def test_a_value_that_goes_by_itself_meanwhile_is_replaced_all_the_same(place: Place, mishap: str) -> None:
    cache = place.cache()
    await cache.set("k", "old", ttl=200)
    place.clock.advance(100)
    computation, gate = gated("new")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(cache.get_or_compute, "k", computation, refresh=True))
        await gate.reached()
        if mishap == "expired":
            place.clock.advance(150)
        place.world.lose_front()
        gate.open()
    assert cache.stats().overtaken == 0
    assert await cache.get("k") == "new"
    await cache.aclose()


async def test_what_fails_is_raised_to_who_wanted_it_anew_and_the_old_value_stays(place: Place) -> None:
    cache = place.cache()
    await cache.get_or_compute("k", Computation("old"), ttl=100, grace=1000)
    place.clock.advance(10)
    failing = Computation(LookupError("no"))
    with pytest.raises(LookupError, match="no"):
        await cache.get_or_compute("k", failing, ttl=100, grace=1000, refresh=True)
    assert await cache.get("k") == "old"
    place.clock.advance(100)
    place.world.lose_front()  # which goes by a clock of its own
    with pytest.raises(LookupError, match="no"):
        await cache.get_or_compute("k", failing, ttl=100, grace=1000, refresh=True)
    with pytest.raises(LookupError, match="no"):
        await cache.get_or_compute("k", failing, ttl=100, grace=1000, max_age=50)
    assert await cache.get_or_compute("k", failing, ttl=100, grace=1000) == "old"
    assert await cache.get_or_compute("k", failing, ttl=100, grace=1000, max_age=200) == "old"
    await cache.aclose()


async def test_without_a_front_or_a_store_it_is_computed_and_returned() -> None:
    watched = Watched()
    await watched.cache.set("k", "old")
    watched.front.down = True
    assert await watched.cache.get_or_compute("k", Computation("new"), refresh=True) == "new"
    assert await watched.cache.get("k") == "new"
    watched.front.down = False
    watched.store.down = True
    anew: list[dict[str, Any]] = [{"refresh": True}, {"max_age": 1e-3}]
    for how in anew:
        watched.clock.advance(10)
        assert await watched.cache.get_or_compute("k", Computation("newer"), **how) == "newer"


async def test_who_waits_no_longer_computes_for_himself_and_is_not_given_the_old_value(place: Place) -> None:
    cache = place.cache()
    await cache.set("k", "old")
    place.clock.advance(100)
    computation, gate = gated("slow")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(cache.get_or_compute, "k", computation, refresh=True))
        await gate.reached()
        assert await cache.get_or_compute("k", Computation("quick"), refresh=True, wait=0) == "quick"
        gate.open()
    assert await cache.get("k") in ("slow", "quick")
    await cache.aclose()


def test_synchronous_callers_choose_as_well(sqlite_url: str) -> None:
    cache = TieredCache(MemoryFront(), sqlite_url)
    space = cache.sync
    assert space.get_or_compute("k", lambda: 1) == 1
    assert space.get_or_compute("k", lambda: 2) == 1
    assert space.get_or_compute("k", lambda: 2, refresh=True) == 2
    with freshness(refresh=True):
        assert space.get_or_compute("k", lambda: 3) == 3
    assert space.get("k") == 3
    with freshness(only_if_cached=True):
        assert space.get_or_compute("k", lambda: 4) == 3
        with pytest.raises(NotCachedError):
            space.get_or_compute("l", lambda: 4)
    cache.close()


# --- only_if_cached ---------------------------------------------------------------------------------------------------


async def test_what_would_have_to_be_computed_is_an_error_that_names_no_key(place: Place) -> None:
    cache = place.cache()
    computation = Computation()
    with pytest.raises(NotCachedError) as caught:
        await cache.get_or_compute("a secret prompt", computation, only_if_cached=True)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, TieredCacheError)
    assert isinstance(caught.value, LookupError)
    await cache.set("k", None)
    assert await cache.get_or_compute("k", computation, only_if_cached=True) is None
    place.clock.advance(10)
    with pytest.raises(NotCachedError):
        await cache.get_or_compute("k", computation, only_if_cached=True, max_age=5)
    with freshness(only_if_cached=True):
        assert await cache.get("nothing") is None  # computes nothing anyway
        with pytest.raises(NotCachedError):
            await cache.get_or_compute("k", computation, refresh=True)
    assert computation.runs == 0
    await cache.aclose()


async def test_an_expired_value_will_do_for_who_allows_a_grace(place: Place) -> None:
    cache = place.cache()
    await cache.get_or_compute("k", Computation("old"), ttl=100, grace=1000)
    place.clock.advance(150)
    place.world.lose_front()  # which goes by a clock of its own
    ask: Callable[..., Any] = partial(cache.get_or_compute, "k", Computation("never"), ttl=100, only_if_cached=True)
    assert await ask(grace=1000) == "old"
    stricter: list[dict[str, Any]] = [{}, {"grace": 1000, "max_age": 120}]
    for how in stricter:
        with pytest.raises(NotCachedError):
            await ask(**how)
    place.clock.advance(1000)
    with pytest.raises(NotCachedError):
        await ask(grace=1000)
    await cache.aclose()


async def test_nobody_is_kept_waiting_for_a_computation_that_he_does_not_pay_for(place: Place) -> None:
    cache = place.cache()
    computation, gate = gated("new")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get_or_compute, "k", computation)
        await gate.reached()
        with pytest.raises(NotCachedError):
            await cache.get_or_compute("k", Computation("never"), only_if_cached=True)
        gate.open()
    await cache.aclose()


async def test_what_is_called_inside_a_computation_is_concerned_as_well(place: Place) -> None:
    cache = place.cache()
    inner: Namespace = cache.namespace("inner")
    await inner.set("k", "old")
    with freshness(refresh=True):
        assert await cache.get_or_compute("k", lambda: inner.get_or_compute("k", Computation("new"))) == "new"
    assert await inner.get("k") == "new"
    await cache.aclose()
