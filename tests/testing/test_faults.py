"""What the wrappers do to a call, and that a service over them is served all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.doubles import DictStore
from tiered_cache import FrontUnavailableError, MemoryFront, Row, StoreUnavailableError, TieredCache
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from tiered_cache._sql import SqlStore
from tiered_cache.testing import Call, Fault, FaultyFront, FaultyStore, Gate, ManualClock
from tiered_cache.testing._entries import A, digest, entry

pytestmark = pytest.mark.every_backend

MINE, HIS = b"m" * 16, b"h" * 16
TTL = 60_000


@pytest.fixture
def front() -> FaultyFront:
    return FaultyFront(MemoryFront())


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(DictStore())


async def put(front: FaultyFront, key: bytes, cell: bytes) -> None:
    await front.inner.apply([Step(MARK_WRITE, key)], HIS, TTL)
    await front.inner.apply([Step(SETTLE_WRITE, key, cell, TTL)], HIS, TTL)


async def mark(front: FaultyFront, key: bytes) -> bool:
    (marked,) = await front.apply([Step(MARK_WRITE, key)], MINE, TTL)
    return marked


async def until_waiting() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


# --- by plan ----------------------------------------------------------------------------------------------------------


async def test_a_call_is_lost_on_its_way_there(front: FaultyFront) -> None:
    front.fail("mark_write")
    with pytest.raises(FrontUnavailableError):
        await mark(front, b"k")
    assert await front.get([b"k"]) == [None]
    assert await mark(front, b"k")  # a plan is used once


async def test_an_answer_is_lost_on_its_way_back(front: FaultyFront) -> None:
    front.fail("mark_write", "after")
    with pytest.raises(FrontUnavailableError):
        await mark(front, b"k")
    assert await front.get([b"k"]) == [b"W0" + MINE]


@pytest.mark.parametrize(("when", "known", "rows"), [("before", True, 0), ("after", False, 1)])
async def test_a_store_that_fails_says_whether_the_outcome_is_known(
    store: FaultyStore, when: Any, known: bool, rows: int
) -> None:
    store.fail("write", when)
    with pytest.raises(StoreUnavailableError) as caught:
        await store.write([entry("a")])
    assert caught.value.outcome_known is known
    assert len((await store.read([digest("a")], [])).rows) == rows


async def test_an_error_of_ones_own_takes_the_place_of_the_usual(store: FaultyStore) -> None:
    store.fail("read", error=OSError("mine"))
    with pytest.raises(OSError, match="mine"):
        await store.read([], [])


async def test_plans_for_one_name_come_in_their_order_and_calls_are_counted(store: FaultyStore) -> None:
    store.fail("clear", error=OSError("first"))
    store.fail("clear", error=OSError("second"))
    store.fail("read", error=OSError("forgotten"))
    for message in ("first", "second"):
        with pytest.raises(OSError, match=message):
            await store.clear(A)
    store.forget_plans()
    await store.read([b"1", b"2"], [])
    assert store.calls == [Call("clear", 1), Call("clear", 1), Call("read", 2)]
    assert store.counts == {"clear": 2, "read": 1}
    assert store.count("write") == 0


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_call_stops_at_a_gate(store: FaultyStore, when: Any) -> None:
    gate = store.stop("write", when)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.write, [entry("a")])
        await gate.reached()
        assert len((await store.read([digest("a")], [])).rows) == (when == "after")
        gate.open()
    assert len((await store.read([digest("a")], [])).rows) == 1


async def test_a_hanging_call_waits_until_it_is_cancelled(front: FaultyFront) -> None:
    front.hang("get")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(front.get, [b"k"])
        await until_waiting()
        assert front.count("get") == 1
        tasks.cancel_scope.cancel()
    assert await front.get([b"k"]) == [None]


async def test_a_delayed_call_comes_later(front: FaultyFront) -> None:
    front.delay("get", 0.05)
    started = anyio.current_time()
    await front.get([b"k"])
    assert anyio.current_time() - started >= 0.045


async def test_a_postponed_call_seems_lost_and_arrives_late(front: FaultyFront) -> None:
    packet = front.postpone("mark_write")
    with pytest.raises(FrontUnavailableError):
        await mark(front, b"k")
    assert await front.get([b"k"]) == [None]
    await packet.deliver()
    assert await front.get([b"k"]) == [b"W0" + MINE]


async def test_what_is_read_comes_back_damaged_and_the_tier_keeps_it_whole(
    front: FaultyFront, store: FaultyStore
) -> None:
    await put(front, b"k", b"V-value")
    (version,) = await store.write([entry("a", b"envelope"), entry("empty", b"")][:1])
    for _ in range(20):
        front.corrupt("get")
        store.corrupt("read")
        damaged, nothing = await front.get([b"k", b"none"])
        assert damaged != b"V-value"
        assert nothing is None
        row = (await store.read([digest("a")], [])).rows[digest("a")]
        assert row.version == version
        assert row.envelope != b"envelope"
    assert await front.get([b"k"]) == [b"V-value"]
    assert (await store.read([digest("a")], [])).rows[digest("a")] == Row(version, None, b"envelope")


async def test_cells_vanish_whatever_they_hold(front: FaultyFront) -> None:
    await put(front, b"value", b"V-value")
    await front.apply([Step(MARK_READ, b"reader")], MINE, TTL)
    for token in (MINE, HIS):
        await front.apply([Step(MARK_WRITE, b"writers")], token, TTL)
    await put(front, b"other", b"V-other")
    await front.vanish([b"value", b"reader", b"writers", b"nothing"])
    assert await front.get([b"value", b"reader", b"writers", b"nothing"]) == [None] * 4
    assert await front.get([b"other"]) == [b"V-other"]


async def test_a_mark_may_vanish_between_marking_and_settling(front: FaultyFront) -> None:
    await front.apply([Step(MARK_READ, b"k")], MINE, TTL)
    front.drop("settle_read")
    assert await front.apply([Step(SETTLE_READ, b"k", b"V", TTL)], MINE, TTL) == [False]
    front.drop("mark_write", "after")
    assert await mark(front, b"k")
    assert await front.get([b"k"]) == [None]


async def test_nothing_arrives_at_a_tier_that_is_down(front: FaultyFront, store: FaultyStore) -> None:
    front.down = store.down = True
    calls: list[Callable[[], Any]] = [
        lambda: front.get([b"k"]),
        lambda: mark(front, b"k"),
        lambda: store.write([entry("a")], [b"cell"]),
        lambda: store.acknowledge([]),
    ]
    for call in calls:
        with pytest.raises((FrontUnavailableError, StoreUnavailableError)):
            await call()
    front.down = store.down = False
    assert await front.get([b"k"]) == [None]
    assert list(await store.journal(b"", 9)) == []


# --- by chance --------------------------------------------------------------------------------------------------------


async def outcomes(seed: int, faults: tuple[Fault, ...], calls: int = 200) -> list[str]:
    front = FaultyFront(MemoryFront())
    await put(front, b"k", b"V-value")
    front.at_random(0.5, seed=seed, faults=faults, seconds=0)
    seen: list[str] = []
    for _ in range(calls):
        try:
            (cell,) = await front.get([b"k"])
        except FrontUnavailableError:
            seen.append("failed")
        else:
            seen.append("nothing" if cell is None else "whole" if cell == b"V-value" else "damaged")
    return seen


async def test_the_same_seed_gives_the_same_faults() -> None:
    faults: tuple[Fault, ...] = ("fail", "lose", "delay", "corrupt")
    first = await outcomes(1, faults)
    assert await outcomes(1, faults) == first
    assert await outcomes(2, faults) != first
    assert set(first) == {"failed", "whole", "damaged"}
    assert 30 < first.count("failed") < 70


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("fail", "failed"), ("lose", "failed"), ("corrupt", "damaged"), ("drop", "nothing"), ("delay", "whole")],
)
async def test_each_fault_happens_alone_where_it_is_asked_for_alone(fault: Fault, expected: str) -> None:
    seen = set(await outcomes(3, (fault,)))
    assert seen - {"whole"} == {expected} - {"whole"}


async def test_chance_ends_with_a_probability_of_nothing(store: FaultyStore) -> None:
    store.at_random(1, faults=["fail"])
    with pytest.raises(StoreUnavailableError):
        await store.setup(create=True)
    store.at_random(0)
    await store.setup(create=True)


async def test_a_cache_over_faulty_tiers_never_gives_a_wrong_value(sqlite_url: str) -> None:
    """Whatever happens, an answer is right or is missing."""
    front, store = FaultyFront(MemoryFront()), FaultyStore(SqlStore(sqlite_url))
    cache = TieredCache(front, store)
    await cache.setup()
    front.at_random(0.2, seed=1, seconds=0.001)
    store.at_random(0.1, seed=2, seconds=0.001, faults=["fail", "lose", "delay", "corrupt"])
    right = 0
    for i in range(150):
        key = f"k{i % 5}"
        found = None
        with suppress(StoreUnavailableError):
            await cache.set(key, {"key": key})
        with suppress(StoreUnavailableError):
            found = await cache.get(key)
        assert found in (None, {"key": key})
        right += found is not None
    assert right > 50
    await cache.aclose()


# --- loops and threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_gate_is_reached_and_opened_from_other_loops_and_threads(store: FaultyStore, backend: str) -> None:
    results: list[Any] = []

    async def elsewhere() -> None:
        results.append(await store.read([], []))

    gate = store.stop("read")
    thread = threading.Thread(target=anyio.run, args=(elsewhere,), kwargs={"backend": backend})
    thread.start()
    await gate.reached()
    assert results == []
    await anyio.to_thread.run_sync(gate.open)
    await anyio.to_thread.run_sync(thread.join)
    assert results == [({}, {})]


async def test_an_open_gate_stops_nobody() -> None:
    gate = Gate()
    gate.open()
    await gate.wait()
    await gate.reached()


# --- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_goes_on_when_told_to_and_never_back() -> None:
    clock = ManualClock(100)
    assert clock() == 100
    for _ in range(1_000):
        clock.advance(0.001)
    assert clock() == 101
    with pytest.raises(ValueError, match="not put back"):
        clock.advance(-1)
    assert "100" in repr(clock)


def test_whole_milliseconds_added_are_whole_milliseconds_counted() -> None:
    clock = ManualClock()
    before = int(clock() * 1000)
    for i in range(1, 5_000):
        clock.advance(0.007)
        assert int(clock() * 1000) == before + 7 * i
