"""What only the in-process front promises: a bound in bytes, nothing expired left lying, any loop, no inheritance."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_rule import steps
from tiered_cache._memory import OVERHEAD_BYTES, Expiries, MemoryFront
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_WRITE, Step
from tiered_cache.testing import ManualClock
from tiered_cache.testing._table import HIS, MARK_TTL, MINE

pytestmark = [pytest.mark.anyio, pytest.mark.every_backend]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def put(front: MemoryFront, key: bytes, cell: bytes, ttl: int = 60_000) -> bool:
    await front.apply([Step(MARK_WRITE, key)], HIS, MARK_TTL)
    return (await front.apply([Step(SETTLE_WRITE, key, cell, ttl)], HIS, MARK_TTL))[0]


async def test_expired_cells_leave_without_being_read(clock: ManualClock) -> None:
    front = MemoryFront(clock=clock)
    for i in range(1_000):
        await put(front, b"key %d" % i, b"V" * 100, 1_000 + i)
    assert front.bytes_held > 1_000 * 100
    clock.advance(20)
    for _ in range(1_000):
        await front.get([b"something else"])
    assert front.bytes_held == 0
    assert not front._expiries._slots
    assert not front._expiries._starts


async def test_expired_cells_leave_faster_than_others_come(clock: ManualClock) -> None:
    """However far ahead they expire, and though nobody reads them, no more than those alive are held for long."""
    front = MemoryFront(clock=clock)
    for i in range(4_000):
        await put(front, b"key %d" % i, b"V", (i % 7 + 1) * 1_000)
        clock.advance(0.01)  # at most 700 of them are alive at any time
    assert len(front._cells) <= 800
    assert sum(len(slot) for slot in front._expiries._slots.values()) == len(front._cells)


async def test_it_never_holds_more_than_its_bound() -> None:
    cost = 100 + 8 + OVERHEAD_BYTES
    front = MemoryFront(max_bytes=10 * cost)
    for i in range(100):
        assert await put(front, b"%08d" % i, b"V" * 100)
        assert front.bytes_held <= 10 * cost
    cells = await front.get([b"%08d" % i for i in range(100)])
    assert [i for i, cell in enumerate(cells) if cell] == list(range(90, 100))


async def test_the_least_recently_used_leaves_first() -> None:
    cell = b"V" * len(b"W0" + HIS)
    front = MemoryFront(max_bytes=3 * (1 + len(cell) + OVERHEAD_BYTES))
    for key in (b"a", b"b", b"c"):
        await put(front, key, cell)
    await front.get([b"a"])
    await put(front, b"d", cell)
    assert await front.get([b"a", b"b", b"c", b"d"]) == [cell, None, cell, cell]


async def test_a_cell_larger_than_the_whole_bound_empties_its_key_and_spares_the_others() -> None:
    front = MemoryFront(max_bytes=4 * OVERHEAD_BYTES)
    await put(front, b"small", b"V")
    await put(front, b"key", b"V-old")
    assert not await put(front, b"key", b"V" * 4 * OVERHEAD_BYTES)
    assert await front.get([b"small", b"key"]) == [b"V", None]


async def test_replacing_and_dropping_give_back_what_cells_took() -> None:
    front = MemoryFront()
    for size in (1, 10_000, 1):
        await put(front, b"key", b"V" * size)
        assert front.bytes_held == len(b"key") + size + OVERHEAD_BYTES
    await front.apply([Step(MARK_WRITE, b"key")], MINE, MARK_TTL)
    await front.apply([Step(SETTLE_WRITE, b"key")], MINE, MARK_TTL)
    assert front.bytes_held == 0


async def test_what_it_counts_is_what_it_takes() -> None:
    """Within a fifth of what Python says that all of it takes."""
    front = MemoryFront()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(5_000):
            await put(front, b"%077d" % i, b"V%099d" % i, 3_600_000 + i * 100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 < (after - before) / front.bytes_held < 1.2


batches = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c"]), steps, st.sampled_from([MINE, HIS]), st.integers(0, 9_000)),
    max_size=30,
)


@given(batches)
async def test_after_any_steps_it_counts_what_is_alive_and_holds_nothing_else(
    events: Sequence[tuple[bytes, Step, bytes, int]],
) -> None:
    clock = ManualClock()
    front = MemoryFront(clock=clock)
    for key, step, token, waited in events:
        clock.advance(waited / 1000)
        await front.apply([step._replace(key=key)], token, MARK_TTL)
        await front.get([b"a", b"b", b"c"])
    now = int(clock() * 1000)
    assert all(cell.expires > now for cell in front._cells.values())
    assert front.bytes_held == sum(1 + len(cell.content) + OVERHEAD_BYTES for cell in front._cells.values())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 2**45), st.integers(0, 2**44)), max_size=60))
def test_what_is_due_is_exactly_what_has_expired(events: list[tuple[int, int, int]]) -> None:
    expiries, now = Expiries(), 0
    alive: dict[bytes, tuple[int, set[bytes]]] = {}
    for name, ttl, waited in events:
        key = b"%d" % name
        if key in alive:
            alive.pop(key)[1].discard(key)
        alive[key] = (now + ttl, expiries.add(key, now + ttl, now))
        now += waited
        for due in expiries.due(now, 1_000):
            expires, _ = alive.pop(due)
            if expires > now:
                alive[due] = (expires, expiries.add(due, expires, now))
        assert all(expires > now for expires, _ in alive.values())
        assert set().union(*expiries._slots.values()) == set(alive)


def test_the_number_of_slots_stays_small_however_many_expiries_there_are() -> None:
    expiries = Expiries()
    for i in range(100_000):
        expiries.add(b"%d" % i, 1 + i * 97, 0)
    assert len(expiries._slots) < 300


def test_a_forked_child_starts_empty_and_with_a_lock_of_its_own() -> None:
    """Also where another thread of the parent held the lock, which nobody in the child can release."""
    program = """
        import asyncio, os, sys, threading
        from tiered_cache._memory import MemoryFront
        from tiered_cache._rule import Step

        front = MemoryFront()
        asyncio.run(front.apply([Step("r", b"key")], b"t" * 16, 10_000))
        taken, release = threading.Event(), threading.Event()

        def hold():
            with front._lock:
                taken.set()
                release.wait()

        threading.Thread(target=hold).start()
        taken.wait()
        child = os.fork()
        if child == 0:
            empty = asyncio.run(front.get([b"key"])) == [None] and front.bytes_held == 0
            works = asyncio.run(front.apply([Step("r", b"key")], b"u" * 16, 10_000)) == [True]
            os._exit(0 if empty and works else 1)
        release.set()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        kept = asyncio.run(front.get([b"key"])) == [b"R" + b"t" * 16]
        sys.exit(code or (0 if kept else 2))
    """
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], timeout=60, check=False)
    assert ran.returncode == 0


def test_its_repr_shows_how_full_it_is() -> None:
    assert repr(MemoryFront(max_bytes=1_000)) == "MemoryFront(0 of 1000 bytes)"


def test_steps_of_one_batch_count_from_one_moment(clock: ManualClock) -> None:
    """The clock is asked once for a call, however many keys it has."""
    asked: list[Any] = []

    def counting() -> float:
        asked.append(clock())
        return clock()

    front = MemoryFront(clock=counting)
    coroutine = front.apply([Step(MARK_READ, b"%d" % i) for i in range(50)], MINE, MARK_TTL)
    with pytest.raises(StopIteration):  # it never waits
        coroutine.send(None)
    assert len(asked) == 1
