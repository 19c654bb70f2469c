"""The near tier over a real Redis: what it answers, what it is told, and what happens where it is not told."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import fakeredis
import pytest
from blockbuster import blockbuster_ctx
from redis.asyncio.connection import AbstractConnection

from tests.servers import RedisServer, connections, left_open, redis_admin, redis_calls
from tests.test_fork import in_a_child
from tests.tracked import NaiveShelf, Tracked, put, tracked
from tests.waiting import until
from tiered_cache._cells import value_cell
from tiered_cache._errors import FrontUnavailableError
from tiered_cache._near import NearFront
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_WRITE, Step
from tiered_cache._shelf import Shelf
from tiered_cache.testing import ManualClock

pytestmark = pytest.mark.anyio

V, W, OTHER = b"n:value", b"n:watermark", b"n:other"
ASKED = [V, W]
WATERMARK = value_cell(W, 1, b"")
MINE = b"m" * 16


def cell(n: int, key: bytes = V) -> bytes:
    return value_cell(key, n, b"envelope %d" % n)


@pytest.fixture
def admin(redis_url: str) -> Generator[Any]:
    """Another process."""
    with redis_admin(redis_url) as client:
        client.set(V, cell(1), px=60_000)
        client.set(W, WATERMARK, px=60_000)
        client.set(OTHER, cell(1, OTHER), px=60_000)
        yield client


def near(url: str) -> NearFront:
    return NearFront(RedisFront(url, timeout=10), b"n:", max_bytes=1_000_000, staleness=30.0)


async def holds(front: NearFront, *keys: bytes) -> None:
    """Returns once these are held: what is read just after a change may be dropped by the news of it."""
    while True:
        if None not in (front.shelf.answer(keys) or (None,)):
            return
        await front.get(keys)
        await anyio.sleep(0.002)


async def heard(front: NearFront, admin: Any) -> None:
    """Returns when all news up to now has come: it keeps its order."""
    await holds(front, OTHER)
    admin.set(OTHER, cell(2, OTHER), px=60_000)
    await until(lambda: front.shelf.answer([OTHER]) == [None])


async def test_what_was_read_is_answered_without_asking(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, _, _):
        await holds(front, *ASKED)
        before = redis_calls(redis_url)
        for _ in range(10):
            assert await front.get(ASKED) == [cell(1), WATERMARK]
            assert await front.get([W, V, V]) == [WATERMARK, cell(1), cell(1)]
        asked = redis_calls(redis_url) - before
        assert not {"MGET", "PTTL", "GET"} & set(asked)


async def test_of_a_question_only_what_is_not_held_is_asked(redis_url: str, admin: Any) -> None:
    noted: list[int] = []
    async with tracked(redis_url, note=noted.append) as (front, _, _):
        await holds(front, *ASKED)
        noted.clear()
        before = redis_calls(redis_url)
        assert await front.get([V, OTHER, b"n:none", W]) == [cell(1), cell(1, OTHER), None, WATERMARK]
        asked = redis_calls(redis_url) - before
        assert (asked["MGET"], asked["PTTL"]) == (1, 2)
        assert noted == [1]


async def test_who_asks_for_watermarks_alone_or_for_values_alone_is_answered_by_redis(
    redis_url: str, admin: Any
) -> None:
    """They decide by it what to store, or what to do to a lease."""
    async with tracked(redis_url) as (front, inner, road):
        await holds(front, *ASKED, OTHER)
        road.freeze()
        admin.set(V, cell(2), px=60_000)
        admin.set(W, value_cell(W, 2, b""), px=60_000)
        assert await front.get(ASKED) == [cell(1), WATERMARK]
        before = inner.asked
        assert await front.get([W]) == [value_cell(W, 2, b"")]
        assert await front.get([V, OTHER]) == [cell(2), cell(1, OTHER)]
        assert inner.asked == before + 2


async def test_a_change_by_another_process_is_seen(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, _, _):
        for n in range(2, 20):
            await holds(front, *ASKED)
            admin.set(V, cell(n), px=60_000)
            await heard(front, admin)
            assert await front.get(ASKED) == [cell(n), WATERMARK]


async def test_a_change_by_this_process_is_seen_at_once_though_its_news_never_comes(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, _, road):
        await holds(front, *ASKED)
        road.freeze()
        for n in range(2, 20):
            await put(front, V, cell(n))
            for _ in range(2):  # read, and held
                assert await front.get(ASKED) == [cell(n), WATERMARK]


async def test_marks_and_what_is_absent_are_not_held(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, _, road):
        await holds(front, *ASKED)
        await front.apply([Step(MARK_WRITE, V), Step(MARK_READ, b"n:none")], MINE, 60_000)
        road.freeze()
        for _ in range(3):
            assert await front.get([V, b"n:none", b"n:nothing", W]) == [b"W0" + MINE, b"R" + MINE, None, WATERMARK]
        admin.delete(V, b"n:none")
        assert await front.get([V, b"n:none", W]) == [None, None, WATERMARK]


# --- news that overtakes an answer ------------------------------------------------------------------------------------


async def read_before_a_change_and_looked_at_after_its_news(front: NearFront, inner: Tracked, admin: Any) -> Any:
    """What somebody is told later, when all has settled."""
    await holds(front, W)
    gate = inner.stop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(front.get, ASKED)
        await gate.reached()
        admin.set(V, cell(2), px=60_000)
        await heard(front, admin)
        gate.open()
    return (await front.get(ASKED))[0]


async def test_an_answer_that_news_has_overtaken_is_not_held(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, inner, _):
        assert await read_before_a_change_and_looked_at_after_its_news(front, inner, admin) == cell(2)


async def test_a_near_tier_that_keeps_what_it_reads_serves_the_older_value_for_ever(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url, NaiveShelf) as (front, inner, _):
        assert await read_before_a_change_and_looked_at_after_its_news(front, inner, admin) == cell(1)


async def test_an_answer_that_ones_own_change_has_overtaken_is_not_held(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, inner, road):
        await holds(front, W)
        gate = inner.stop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(front.get, ASKED)
            await gate.reached()
            road.freeze()
            await put(front, V, cell(2))
            gate.open()
        assert await front.get(ASKED) == [cell(2), WATERMARK]


async def test_what_was_read_while_ones_own_change_was_under_way_is_not_held_after_it(
    redis_url: str, admin: Any
) -> None:
    async with tracked(redis_url) as (front, inner, road):
        await holds(front, *ASKED)
        road.freeze()
        gate = inner.stop_steps()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(front.apply, [Step(SETTLE_WRITE, V)], MINE, 1000)
            await gate.reached()
            for _ in range(2):
                assert await front.get(ASKED) == [cell(1), WATERMARK]
            gate.open()
        assert await front.get(ASKED) == [None, WATERMARK]


async def test_a_change_of_which_nobody_knows_whether_it_was_made_counts_as_made(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, inner, road):
        await holds(front, *ASKED)
        road.freeze()
        inner.mute = True
        with pytest.raises(FrontUnavailableError):
            await front.apply([Step(SETTLE_WRITE, V)], MINE, 1000)
        assert await front.get(ASKED) == [None, WATERMARK]


@pytest.mark.parametrize("what", ["flushall", "flushdb"])
async def test_when_redis_is_flushed_so_is_this(redis_url: str, admin: Any, what: str) -> None:
    async with tracked(redis_url) as (front, inner, _):
        await holds(front, *ASKED)
        gate = inner.stop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(front.get, [OTHER])
            await gate.reached()
            getattr(admin, what)()
            await until(lambda: front.shelf.bytes_held == 0)
            gate.open()
        assert front.shelf.bytes_held == 0
        assert await front.get([*ASKED, OTHER]) == [None, None, None]
        admin.set(V, cell(2), px=60_000)  # and it goes on
        admin.set(W, WATERMARK, px=60_000)
        await holds(front, *ASKED)


# --- news that does not come ------------------------------------------------------------------------------------------


async def test_where_news_is_silent_a_change_is_seen_once_the_bound_has_passed(redis_url: str, admin: Any) -> None:
    clock = ManualClock()
    async with tracked(redis_url, clock=clock) as (front, _, road):
        await holds(front, *ASKED)
        road.freeze()
        admin.set(V, cell(2), px=60_000)
        clock.advance(29.999)
        assert await front.get(ASKED) == [cell(1), WATERMARK]
        clock.advance(0.001)
        assert await front.get(ASKED) == [cell(2), WATERMARK]


async def test_an_answered_ping_proves_what_came_before_it_was_sent_and_no_more(redis_url: str, admin: Any) -> None:
    proven: list[float] = []

    class Proven(Shelf):
        def confirm(self, moment: float) -> None:
            proven.append(self.clock() - moment)
            super().confirm(moment)

    async with tracked(redis_url, Proven, staleness=1.0) as (_, _, road):
        road.delay(0.1)
        seen = len(proven)
        await until(lambda: len(proven) >= seen + 3)
        assert min(proven[-2:]) >= 0.1


async def test_a_connection_that_is_silent_is_given_up_and_what_was_held_with_it(
    redis_url: str, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tiered_cache")
    async with tracked(redis_url, staleness=0.5) as (front, _, road):
        await holds(front, *ASKED)
        road.freeze()
        await until(lambda: front.shelf.bytes_held == 0)
        admin.set(V, cell(2), px=60_000)
        for _ in range(2):  # not held: nobody would tell
            assert await front.get(ASKED) == [cell(2), WATERMARK]
        assert front.shelf.bytes_held == 0
        road.thaw()
        await holds(front, *ASKED)
        admin.set(V, cell(3), px=60_000)
        await heard(front, admin)
        assert await front.get(ASKED) == [cell(3), WATERMARK]
        await until(lambda: any("works again" in each.message for each in caplog.records))
        assert [each.levelname for each in caplog.records if "near" in each.message] == ["WARNING", "INFO"]


async def test_what_changed_while_the_connection_was_broken_is_not_held_after_it(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url) as (front, inner, road):
        await holds(front, *ASKED)
        road.refuse()
        road.cut()
        await until(lambda: not front.shelf.fresh)
        admin.set(V, cell(2), px=60_000)
        for _ in range(50):
            assert await front.get(ASKED) == [cell(2), WATERMARK]
            await anyio.sleep(0.001)
        assert inner.tracked <= 3, "it is not tried again all the time"
        admin.set(V, cell(3), px=60_000)
        road.restore()
        await until(lambda: front.shelf.fresh)
        assert await front.get(ASKED) == [cell(3), WATERMARK]
        await holds(front, *ASKED)


async def test_a_cell_is_not_answered_longer_than_it_lives_in_redis(redis_url: str, admin: Any) -> None:
    clock = ManualClock()
    admin.set(V, cell(1), px=5_000)
    async with tracked(redis_url, clock=clock) as (front, _, road):
        await holds(front, *ASKED)
        road.freeze()
        admin.set(V, cell(2), px=60_000)
        clock.advance(4.0)
        assert await front.get(ASKED) == [cell(1), WATERMARK]
        clock.advance(1.0)
        assert await front.get(ASKED) == [cell(2), WATERMARK]


async def test_what_expires_in_redis_is_gone_here(redis_url: str, admin: Any) -> None:
    admin.set(V, cell(1), px=150)
    async with tracked(redis_url) as (front, _, road):
        await front.get(ASKED)
        road.freeze()
        await until(lambda: admin.get(V) is None)
        assert (await front.get(ASKED))[0] is None


async def test_it_holds_no_more_than_it_may(redis_url: str, admin: Any) -> None:
    async with tracked(redis_url, max_bytes=20_000) as (front, _, _):
        keys = [b"n:%d" % i for i in range(200)]
        for key in keys:
            admin.set(key, value_cell(key, 1, bytes(1000)), px=60_000)
        await heard(front, admin)
        assert await front.get([*keys, W]) == [*(value_cell(key, 1, bytes(1000)) for key in keys), WATERMARK]
        assert 15_000 < front.shelf.bytes_held <= 20_000


# --- servers that refuse ----------------------------------------------------------------------------------------------


async def test_where_redis_refuses_it_is_as_if_it_were_not_there(
    spare_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_admin(spare_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pass", "~*", "&*", "+@all", "-client")
        client.set(V, cell(1), px=60_000)
        client.set(W, WATERMARK, px=60_000)
    front = near(spare_redis.url.replace("redis://", "redis://app:pass@"))
    for _ in range(3):
        assert await front.get(ASKED) == [cell(1), WATERMARK]
    await until(lambda: bool(caplog.records))
    await put(front, V, cell(2))
    assert await front.get(ASKED) == [cell(2), WATERMARK]
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "CLIENT TRACKING" in caplog.text
    assert "every read asks the front" in caplog.text
    await front.aclose()
    assert left_open(spare_redis.url) == 0


async def test_a_fake_that_cannot_tell_serves_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    fake: Any = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(version=(7,)))
    front = NearFront(RedisFront(fake, timeout=10), b"", max_bytes=1000)
    await put(front, V, cell(1))
    assert await front.get([V]) == [cell(1)]
    await until(lambda: bool(caplog.records))
    assert await front.get([V]) == [cell(1)]
    await front.aclose()


# --- loops, threads, processes ----------------------------------------------------------------------------------------


@asynccontextmanager
async def at_work(url: str) -> AsyncGenerator[NearFront]:
    front = near(url)
    await holds(front, *ASKED)
    yield front
    await front.aclose()


async def test_however_many_loops_use_it_there_is_one_connection_for_news(redis_url: str, admin: Any) -> None:
    async with at_work(redis_url) as front:
        wrong: list[object] = []

        async def main() -> None:
            for _ in range(50):
                cells = await front.get(ASKED)
                if cells != [cell(1), WATERMARK]:
                    wrong.append(cells)

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
        assert wrong == []
        admin.close()
        assert connections(redis_url) == 2  # for news, and of this loop, which has asked; the others had not to


async def test_closing_it_ends_the_listening_and_it_can_be_used_again(redis_url: str, admin: Any) -> None:
    front = near(redis_url)
    for _ in range(2):
        await holds(front, *ASKED)
        await front.aclose()
        admin.close()
        assert await anyio.to_thread.run_sync(left_open, redis_url) == 0
        assert not front.shelf.fresh
    await front.aclose()


async def test_while_nobody_reads_nobody_listens(redis_url: str, admin: Any) -> None:
    clock = ManualClock()
    async with tracked(redis_url, staleness=0.3, clock=clock) as (front, _, road):
        await holds(front, *ASKED)
        clock.advance(59.0)
        await front.get(ASKED)
        listener = front._listener
        assert listener is not None
        await until(lambda: not listener.used)  # it has taken note of the read
        clock.advance(59.0)
        await until(lambda: front.shelf.fresh)  # a ping later
        assert not listener.ended.done()
        clock.advance(1.1)
        await until(lambda: road.connections == 0)
        assert front.shelf.bytes_held == 0
        admin.set(V, cell(2), px=60_000)
        assert await front.get(ASKED) == [cell(2), WATERMARK]
        await holds(front, *ASKED)


async def test_dropped_without_closing_it_leaves_no_connection_and_no_warning(redis_url: str, admin: Any) -> None:
    front = near(redis_url)
    await holds(front, *ASKED)
    listener = front._listener
    assert listener is not None
    del front
    gc.collect()
    await until(listener.ended.done)
    del listener
    gc.collect()
    admin.close()
    assert await anyio.to_thread.run_sync(left_open, redis_url) == 0


async def test_where_no_thread_can_be_started_it_is_as_if_it_were_not_there(
    redis_url: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = near(redis_url)

    def submit(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("tiered_cache._portal.submit", submit)
        for _ in range(2):
            assert await front.get(ASKED) == [cell(1), WATERMARK]
        assert front.shelf.answer(ASKED) is None
    await holds(front, *ASKED)  # when one can be, it is
    await front.aclose()


async def test_what_a_cell_has_to_live_comes_with_it(
    redis_url: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one exchange: however many keys, they are not waited for twice."""
    front = RedisFront(redis_url)
    await front.get(ASKED)
    sent: list[bytes] = []
    send = AbstractConnection.send_packed_command

    async def noting(self: AbstractConnection, command: bytes, *given: Any) -> None:
        sent.append(command)
        await send(self, command, *given)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", noting)
    (one, left), (other, _) = await front.read(ASKED)
    assert (one, other) == (cell(1), WATERMARK)
    assert 0 < left <= 60_000
    assert len(sent) == 1
    await front.aclose()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_hears_for_itself(redis_url: str, admin: Any) -> None:
    front = near(redis_url)

    async def at_first() -> None:
        await holds(front, *ASKED)

    def child() -> None:
        assert front.shelf.answer(ASKED) is None

        async def there() -> None:
            assert await front.get(ASKED) == [cell(1), WATERMARK]
            await holds(front, *ASKED)
            with redis_admin(redis_url) as other:
                other.set(V, cell(2), px=60_000)
                await heard(front, other)
            assert await front.get(ASKED) == [cell(2), WATERMARK]
            await front.aclose()

        asyncio.run(there())

    async def afterwards() -> None:
        """The parent's connection was neither used nor closed by the child."""
        await heard(front, admin)
        assert await front.get(ASKED) == [cell(2), WATERMARK]
        admin.set(V, cell(3), px=60_000)
        await heard(front, admin)
        assert await front.get(ASKED) == [cell(3), WATERMARK]
        await front.aclose()

    asyncio.run(at_first())
    listener = front._listener
    in_a_child(child)
    asyncio.run(afterwards())
    assert listener is not None
    admin.close()
    assert left_open(redis_url) == 0


async def test_without_its_server_it_waits_for_it_and_says_so_once(
    spare_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with tracked(spare_redis.url) as (front, _, _):
        await put(front, V, cell(1))
        await put(front, W, WATERMARK)
        await holds(front, *ASKED)
        await anyio.to_thread.run_sync(spare_redis.kill)
        await until(lambda: not front.shelf.fresh)
        assert front.shelf.bytes_held == 0
        await anyio.to_thread.run_sync(spare_redis.start)
        await put(front, V, cell(2))
        await put(front, W, WATERMARK)
        await holds(front, *ASKED)
        assert await front.get(ASKED) == [cell(2), WATERMARK]
        assert [each.levelname for each in caplog.records if "near" in each.message] == ["WARNING"]


async def test_it_does_not_block_the_loop(redis_url: str, admin: Any) -> None:
    async with at_work(redis_url) as front:
        with blockbuster_ctx("tiered_cache"):  # connecting, redis-py looks up its own version in a file
            await put(front, V, cell(2))
            await holds(front, *ASKED)
