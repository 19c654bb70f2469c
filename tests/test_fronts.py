"""What every front promises, over the in-process front, a real Redis and fakeredis."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import anyio
import fakeredis
import pytest

from tests.servers import redis_admin
from tiered_cache._memory import MemoryFront
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from tiered_cache._tiers import Front

pytestmark = pytest.mark.anyio

MINE, HIS = b"m" * 16, b"h" * 16
MARK_TTL = 10_000
BINARY = b"V\0\xff\r\n$-1\r\n" + bytes(range(256))


class Bench(NamedTuple):
    """A front, and what tells how long its cells have to live, in milliseconds (negative: not there)."""

    front: Front
    left: Callable[[bytes], int]


@pytest.fixture(params=["memory", "redis", "fake"])
async def bench(request: pytest.FixtureRequest) -> AsyncGenerator[Bench]:
    if request.param == "memory":
        memory = MemoryFront(clock=lambda: 1_000.0)

        def left(key: bytes) -> int:
            return memory._cells[key].expires - 1_000_000

        yield Bench(memory, left)
    elif request.param == "fake":
        server = fakeredis.FakeServer(version=(7,))
        client: Any = fakeredis.FakeRedis(server=server)
        yield Bench(RedisFront(fakeredis.FakeAsyncRedis(server=server), timeout=10), client.pttl)
    else:
        url: str = request.getfixturevalue("redis_url")
        with redis_admin(url) as admin:
            front = RedisFront(url, timeout=10)
            yield Bench(front, admin.pttl)
            await front.aclose()


@pytest.fixture
def front(bench: Bench) -> Front:
    return bench.front


async def put(front: Front, key: bytes, cell: bytes, ttl: int = 60_000) -> None:
    await front.apply([Step(MARK_WRITE, key)], HIS, MARK_TTL)
    assert await front.apply([Step(SETTLE_WRITE, key, cell, ttl)], HIS, MARK_TTL) == [True]


async def test_what_was_never_put_is_nothing(front: Front) -> None:
    assert list(await front.get([b"a", b"b"])) == [None, None]


async def test_nothing_asked_is_nothing_answered(front: Front) -> None:
    assert list(await front.get([])) == []
    assert list(await front.apply([], MINE, MARK_TTL)) == []


async def test_cells_come_in_the_order_of_their_keys(front: Front) -> None:
    keys = [b"key %d" % i for i in range(100)]
    for key in keys[::2]:
        await put(front, key, b"V" + key)
    expected = [b"V" + key if i % 2 == 0 else None for i, key in enumerate(keys)]
    assert list(await front.get(keys)) == expected
    assert list(await front.get(keys[::-1])) == expected[::-1]
    assert list(await front.get([keys[0], keys[0]])) == [b"V" + keys[0]] * 2


async def test_keys_and_cells_may_hold_any_bytes(front: Front) -> None:
    for key in (b"\0", b"\r\n", b"", bytes(range(256))):
        await put(front, key, BINARY + key)
        assert list(await front.get([key])) == [BINARY + key]


async def test_a_mark_is_a_cell_that_everybody_sees(front: Front) -> None:
    assert list(await front.apply([Step(MARK_READ, b"r"), Step(MARK_WRITE, b"w")], MINE, MARK_TTL)) == [True, True]
    assert list(await front.get([b"r", b"w"])) == [b"R" + MINE, b"W0" + MINE]


async def test_each_step_of_a_batch_is_answered_for_itself(front: Front) -> None:
    await front.apply([Step(MARK_READ, b"1"), Step(MARK_READ, b"2")], HIS, MARK_TTL)
    await front.apply([Step(MARK_READ, b"3")], MINE, MARK_TTL)
    batch = [
        Step(MARK_READ, b"1"),
        Step(MARK_WRITE, b"2"),
        Step(SETTLE_READ, b"3", BINARY, 60_000),
        Step(SETTLE_WRITE, b"4", BINARY, 60_000),
    ]
    assert list(await front.apply(batch, MINE, MARK_TTL)) == [False, True, True, False]
    assert list(await front.get([b"1", b"2", b"3", b"4"])) == [b"R" + HIS, b"W0" + MINE, BINARY, None]


async def test_an_invalid_cell_is_replaced_only_by_who_saw_that_one(front: Front) -> None:
    await put(front, b"key", BINARY)
    assert list(await front.apply([Step(MARK_READ, b"key", b"V-another")], MINE, MARK_TTL)) == [False]
    assert list(await front.get([b"key"])) == [BINARY]
    assert list(await front.apply([Step(MARK_READ, b"key", BINARY[:9])], MINE, MARK_TTL)) == [True]
    assert list(await front.get([b"key"])) == [b"R" + MINE]


async def test_every_cell_has_an_expiry(bench: Bench) -> None:
    await bench.front.apply([Step(MARK_READ, b"r"), Step(MARK_WRITE, b"w")], MINE, MARK_TTL)
    await put(bench.front, b"value", BINARY, 60_000)
    assert MARK_TTL - 5_000 < bench.left(b"r") <= MARK_TTL
    assert MARK_TTL - 5_000 < bench.left(b"w") <= MARK_TTL
    assert 55_000 < bench.left(b"value") <= 60_000
    await bench.front.apply([Step(MARK_WRITE, b"w")], HIS, 30_000)  # joined, and prolonged
    assert 25_000 < bench.left(b"w") <= 30_000
    await bench.front.apply([Step(SETTLE_WRITE, b"w")], HIS, 30_000)  # left again: nobody prolongs a contended cell
    assert 20_000 < bench.left(b"w") <= 30_000


async def test_a_step_repeated_is_as_good_as_one(front: Front) -> None:
    for step in (Step(MARK_WRITE, b"w"), Step(MARK_WRITE, b"w"), Step(MARK_READ, b"r"), Step(MARK_READ, b"r")):
        assert list(await front.apply([step], MINE, MARK_TTL)) == [True]
    settle = Step(SETTLE_READ, b"r", BINARY, 60_000)
    assert list(await front.apply([settle], MINE, MARK_TTL)) == [True]
    await front.apply([settle], MINE, MARK_TTL)
    assert list(await front.get([b"w", b"r"])) == [b"W0" + MINE, BINARY]


async def test_a_batch_of_thousands_is_taken(front: Front) -> None:
    keys = [b"key %d" % i for i in range(9_000)]
    assert all(await front.apply([Step(MARK_READ, key) for key in keys], MINE, MARK_TTL))
    settles = [Step(SETTLE_READ, key, b"V" + key, 60_000) for key in keys]
    assert all(await front.apply(settles, MINE, MARK_TTL))
    assert list(await front.get(keys)) == [b"V" + key for key in keys]


async def test_a_batch_of_megabytes_is_taken(front: Front) -> None:
    cells = {b"key %d" % i: b"V%d" % i + bytes(3_000_000) for i in range(6)}
    await front.apply([Step(MARK_WRITE, key) for key in cells], MINE, MARK_TTL)
    settles = [Step(SETTLE_WRITE, key, cell, 60_000) for key, cell in cells.items()]
    assert all(await front.apply(settles, MINE, MARK_TTL))
    assert list(await front.get(list(cells))) == list(cells.values())


async def test_of_many_writers_at_once_each_is_told_the_truth(front: Front) -> None:
    """All join one cell; none of them may put its value, and the last to leave empties it."""
    told: list[bool] = []

    async def write(token: bytes) -> None:
        await front.apply([Step(MARK_WRITE, b"key")], token, MARK_TTL)
        async with barrier:
            arrived.append(token)
            barrier.notify_all()
            while len(arrived) < 20:
                await barrier.wait()
        told.extend(await front.apply([Step(SETTLE_WRITE, b"key", BINARY, 60_000)], token, MARK_TTL))

    arrived: list[bytes] = []
    barrier = anyio.Condition()
    async with anyio.create_task_group() as writers:
        for i in range(20):
            writers.start_soon(write, bytes((i,)) * 16)
    assert told == [False] * 20
    assert list(await front.get([b"key"])) == [None]


async def test_loops_in_several_threads_share_it_and_each_gets_its_own_answers(front: Front) -> None:
    wrong: list[Any] = []

    async def main(name: int) -> None:
        async def one(i: int) -> None:
            key = b"%d of %d" % (i, name)
            await put(front, key, b"V" + key)
            cells = list(await front.get([key, b"shared"]))
            if cells != [b"V" + key, b"V-shared"]:
                wrong.append(cells)

        async with anyio.create_task_group() as calls:
            for i in range(50):
                calls.start_soon(one, i)

    await put(front, b"shared", b"V-shared")
    threads = [threading.Thread(target=anyio.run, args=(main, name)) for name in range(4)]
    for thread in threads:
        thread.start()
    await main(4)
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert wrong == []
    cells = await front.get([b"%d of %d" % (i, name) for i in range(50) for name in range(5)])
    assert None not in cells


async def test_it_can_be_used_again_after_closing(front: Front) -> None:
    await front.aclose()
    await put(front, b"key", BINARY)
    assert list(await front.get([b"key"])) == [BINARY]
    await front.aclose()
    await front.aclose()
