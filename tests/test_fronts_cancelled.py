"""A call that is cancelled or runs out of time takes nobody else's reply with it, and no connection for good."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.servers import connections, left_open, redis_admin
from tests.waiting import until
from tiered_cache._errors import FrontUnavailableError
from tiered_cache._redis import RedisFront, _link
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_WRITE, Step
from tiered_cache.testing import SlowProxy

pytestmark = pytest.mark.anyio

TOKEN = b"m" * 16
MARK_TTL = 60_000
SLOWEST_SECONDS = 0.004
CALLS = 200


async def fill(url: str) -> None:
    """Each key holds its own name."""
    front = RedisFront(url, timeout=10)
    keys = [b"%d" % i for i in range(CALLS)]
    await front.apply([Step(MARK_WRITE, key) for key in keys], TOKEN, MARK_TTL)
    await front.apply([Step(SETTLE_WRITE, key, b"V" + key, 600_000) for key in keys], TOKEN, MARK_TTL)
    await front.aclose()


async def ask(front: RedisFront, i: int) -> None:
    """One of the three kinds of exchange, and what it answers is checked against what was asked."""
    if i % 3 == 0:
        assert await front.get([b"%d" % i]) == [b"V%d" % i]
    elif i % 3 == 1:
        assert await front.get([b"%d" % i, b"none", b"%d" % i]) == [b"V%d" % i, None, b"V%d" % i]
    else:
        assert await front.apply([Step(MARK_READ, b"%d" % i)], TOKEN, MARK_TTL) == [False]


@pytest.mark.parametrize("how", ["task", "scope", "timeout"])
@pytest.mark.parametrize("max_connections", [1, 4])
async def test_whoever_asks_after_hundreds_were_cut_short_gets_the_own_reply(
    redis_url: str, how: str, max_connections: int
) -> None:
    chance = random.Random(20_240)
    await fill(redis_url)
    async with SlowProxy.to(redis_url, seed=20_240) as road:
        road.delay(0, SLOWEST_SECONDS, split=True)
        url = road.url(redis_url)
        front = RedisFront(url, max_connections=max_connections, timeout=10)
        hasty = RedisFront(url, max_connections=max_connections, timeout=SLOWEST_SECONDS)
        hasty._link._pools = front._link._pools  # the same connections, and less patience
        cut_short = 0

        async def cut(i: int) -> None:
            nonlocal cut_short
            after = chance.random() * 2 * SLOWEST_SECONDS
            if how == "task":
                task = asyncio.ensure_future(ask(front, i))
                await asyncio.wait([task], timeout=after)
                cut_short += task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None
            elif how == "scope":
                with anyio.move_on_after(after) as scope:
                    await ask(front, i)
                cut_short += scope.cancelled_caught
            else:
                try:
                    await ask(hasty, i)
                except FrontUnavailableError:
                    cut_short += 1

        for start in range(0, CALLS, 8):
            async with anyio.create_task_group() as crowd:
                for i in range(start, start + 8):
                    crowd.start_soon(cut, i)
                crowd.start_soon(ask, front, start)  # in the middle of it
            await ask(front, start + 1)
        assert cut_short > CALLS / 4
        for i in range(30):
            await ask(front, i)
        pool = front._link._pools.get()
        assert len(pool._idle) + len(pool._opening) <= max_connections
        await until(lambda: connections(redis_url) <= max_connections)  # the server hears of closed ones a little later
        await front.aclose()
    assert await anyio.to_thread.run_sync(left_open, redis_url) == 0


async def test_a_cancelled_wait_for_a_connection_costs_no_connection(redis_url: str) -> None:
    """All of them can still be had afterwards, by somebody who waited behind those that gave up."""
    front = RedisFront(redis_url, max_connections=2, timeout=30)
    await front.get([b"warm"])
    with redis_admin(redis_url) as admin:
        admin.client_pause(200)  # all commands wait, so both connections are taken
        async with anyio.create_task_group() as patient, anyio.create_task_group() as crowd:
            for _ in range(20):
                crowd.start_soon(front.get, [b"key"])
            await anyio.wait_all_tasks_blocked()
            patient.start_soon(front.get, [b"key"])
            await anyio.wait_all_tasks_blocked()
            crowd.cancel_scope.cancel()
    assert await front.get([b"key"]) == [None]
    await front.aclose()
    assert left_open(redis_url) == 0


async def test_a_late_reply_to_somebody_who_gave_up_is_read_by_nobody(
    spare_redis_front: tuple[RedisFront, str],
) -> None:
    front, url = spare_redis_front
    await fill(url)
    with redis_admin(url) as admin:
        admin.client_pause(150)
        with pytest.raises(FrontUnavailableError):
            await front.get([b"1"])
    await anyio.sleep(0.1)  # the pause is over, and there is a reply for nobody
    for i in range(2, 20):
        assert await front.get([b"%d" % i]) == [b"V%d" % i]
    await front.aclose()


@asynccontextmanager
async def silent_road(url: str) -> AsyncGenerator[tuple[SlowProxy, RedisFront]]:
    """A front whose first handshake is not answered before `thaw`."""
    async with SlowProxy.to(url) as road:
        road.freeze()
        front = RedisFront(road.url(url), timeout=10)
        yield road, front
        await front.aclose()


async def give_up(road: SlowProxy, front: RedisFront) -> None:
    async with anyio.create_task_group() as impatient:
        impatient.start_soon(front.get, [b"key"])
        with anyio.fail_after(20):
            while not road.received:  # noqa: ASYNC110 (a proxy tells nobody)
                await anyio.sleep(0.001)
        impatient.cancel_scope.cancel()


async def test_a_handshake_slower_than_anybodys_patience_comes_to_its_end(redis_url: str) -> None:
    """What was begun for a caller who gave up goes on for those who come next, and none of them begins it again."""
    async with silent_road(redis_url) as (road, front):
        for _ in range(3):
            await give_up(road, front)
        road.thaw()
        assert await front.get([b"key"]) == [None]
        assert road.accepted == 1


async def test_what_was_opened_too_late_and_closed_by_the_server_since_is_replaced(redis_url: str) -> None:
    async with silent_road(redis_url) as (road, front):
        await give_up(road, front)
        road.thaw()
        pool = front._link._pools.get()
        await asyncio.wait(pool._opening)
        with redis_admin(redis_url) as admin:
            assert admin.client_kill_filter(_type="normal", skipme=True) == 1
        assert await front.get([b"key"]) == [None]
        assert road.accepted == 2


async def test_a_handshake_nobody_waits_for_any_more_ends_when_the_front_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_link, "_CONNECT_SECONDS", 60.0)
    arrived, gone = anyio.Event(), anyio.Event()

    async def serve(client: SocketStream) -> None:
        async with client:
            await client.receive()
            arrived.set()
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await client.receive()
            gone.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as road:
        road.start_soon(listener.serve, serve)
        front = RedisFront(f"redis://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/1", timeout=10)
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(front.get, [b"key"])
            await arrived.wait()
            impatient.cancel_scope.cancel()
        assert not gone.is_set()
        await front.aclose()
        with anyio.fail_after(10):  # sooner than the attempt would end by itself
            await gone.wait()
        road.cancel_scope.cancel()


@pytest.fixture
def spare_redis_front(redis_url: str) -> tuple[RedisFront, str]:
    return RedisFront(redis_url, timeout=0.1), redis_url
