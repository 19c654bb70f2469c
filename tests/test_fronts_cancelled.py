"""A call that is cancelled or runs out of time takes nobody else's reply with it, and no connection for good."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream

from tests.servers import connections, left_open, redis_admin
from tiered_cache._errors import FrontUnavailableError
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_WRITE, Step

pytestmark = pytest.mark.anyio

TOKEN = b"m" * 16
MARK_TTL = 60_000
SLOWEST_SECONDS = 0.004
CALLS = 200


@asynccontextmanager
async def slow_road(url: str, chance: random.Random) -> AsyncGenerator[str]:
    """A URL that leads to the same server, over a road that keeps each piece of a reply for a moment of any length."""

    async def carry(source: ByteReceiveStream, target: ByteSendStream, *, slowly: bool) -> None:
        try:
            async for piece in source:
                middle = chance.randrange(len(piece) + 1)
                for part in (piece[:middle], piece[middle:]):
                    if slowly:
                        await anyio.sleep(chance.random() * SLOWEST_SECONDS)
                    if part:
                        await target.send(part)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            with anyio.CancelScope(shield=True):
                await target.aclose()

    async def serve(client: SocketStream) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        server = await anyio.connect_tcp(parts.hostname, parts.port or 6379)
        async with client, server, anyio.create_task_group() as ways:
            ways.start_soon(lambda: carry(client, server, slowly=False))
            await carry(server, client, slowly=True)
            ways.cancel_scope.cancel()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as road:
        road.start_soon(listener.serve, serve)
        yield f"redis://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/0"
        road.cancel_scope.cancel()


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
    async with slow_road(redis_url, chance) as url:
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
        assert connections(redis_url) <= max_connections
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
        admin.client_unpause()
    for i in range(2, 20):
        assert await front.get([b"%d" % i]) == [b"V%d" % i]
    await front.aclose()


@pytest.fixture
def spare_redis_front(redis_url: str) -> tuple[RedisFront, str]:
    return RedisFront(redis_url, timeout=0.1), redis_url
