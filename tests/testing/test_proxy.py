"""The proxy does what it says, to real servers and to plain sockets."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Generator
from contextlib import closing

import anyio
import anyio.to_thread
import pytest

from tests.servers import connections, left_open
from tests.waiting import until_sync
from tiered_cache import FrontUnavailableError, StoreUnavailableError, TieredCache
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_READ, Step
from tiered_cache._sql import SqlStore
from tiered_cache.testing import SlowProxy
from tiered_cache.testing._entries import digest, entry

TOKEN = b"t" * 16


@pytest.fixture
def echo() -> Generator[int]:
    """The port of a server that sends back what it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    while piece := connection.recv(65536):
                        connection.sendall(piece)
                except ConnectionError:
                    pass

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def road(echo: int) -> Generator[SlowProxy]:
    with SlowProxy("127.0.0.1", echo) as road:
        yield road


def connected(road: SlowProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", road.port), timeout=20)


def echoed(connection: socket.socket, content: bytes) -> bytes:
    connection.sendall(content)
    answer = b""
    while len(answer) < len(content):
        piece = connection.recv(65536)
        assert piece, "closed"
        answer += piece
    return answer


def silent(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(20)
    return False


def test_what_is_sent_comes_back_and_connections_end_in_order(road: SlowProxy) -> None:
    content = bytes(range(256)) * 10_000
    with closing(connected(road)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(content,))
        sender.start()
        assert echoed(connection, b"") == b""
        received = b""
        while len(received) < len(content):
            received += connection.recv(65536)
        sender.join()
        assert received == content
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    until_sync(lambda: road.connections == 0)
    assert road.accepted == 1
    assert road.received == len(content)


def test_delayed_answers_come_later_and_in_their_order(road: SlowProxy) -> None:
    with closing(connected(road)) as connection:
        assert echoed(connection, b"warm") == b"warm"
        road.delay(0.1)
        started = time.monotonic()
        assert echoed(connection, b"slow") == b"slow"
        assert time.monotonic() - started >= 0.1
        road.delay(0, 0.002, split=True)
        content = bytes(range(256)) * 300
        assert echoed(connection, content) == content
        road.restore()


def test_while_frozen_nothing_passes_and_nothing_is_lost(road: SlowProxy) -> None:
    with closing(connected(road)) as connection:
        assert echoed(connection, b"warm") == b"warm"
        road.freeze()
        connection.sendall(b"held up")
        assert silent(connection)
        with closing(connected(road)) as new:  # taken
            new.sendall(b"too")
            assert silent(new)
            road.thaw()
            assert new.recv(10) == b"too"
        assert connection.recv(10) == b"held up"


def test_an_answer_that_is_under_way_when_it_freezes_is_held_up_as_well(road: SlowProxy) -> None:
    with closing(connected(road)) as connection:
        assert echoed(connection, b"warm") == b"warm"
        road.delay(0.1)
        connection.sendall(b"x")
        until_sync(lambda: road.received == len(b"warmx"))
        time.sleep(0.03)  # most likely the server has it by now; the promise holds either way
        road.freeze()
        time.sleep(0.1)
        assert silent(connection)
        road.thaw()
        assert connection.recv(10) == b"x"


def test_half_open_connections_are_never_answered_and_older_ones_go_on(road: SlowProxy) -> None:
    with closing(connected(road)) as older:
        assert echoed(older, b"warm") == b"warm"
        road.half_open()
        with closing(connected(road)) as connection:
            connection.sendall(b"anybody there?")
            assert silent(connection)
            assert echoed(older, b"still") == b"still"
            road.restore()
            with pytest.raises(ConnectionError):
                connection.recv(1)
        assert echoed(older, b"again") == b"again"


def test_a_cut_connection_breaks_off_and_a_new_one_works(road: SlowProxy) -> None:
    with closing(connected(road)) as connection:
        assert echoed(connection, b"warm") == b"warm"
        road.cut()
        assert road.connections == 0
        with pytest.raises(ConnectionError):
            connection.recv(1)
    with closing(connected(road)) as connection:
        assert echoed(connection, b"new") == b"new"


def test_a_refusing_port_stays_its_own_and_listens_again(road: SlowProxy) -> None:
    with closing(connected(road)) as older:
        assert echoed(older, b"warm") == b"warm"
        for _ in range(3):
            road.refuse()
            with pytest.raises(ConnectionRefusedError):
                connected(road)
            assert echoed(older, b"still") == b"still"
            road.restore()
            with closing(connected(road)) as connection:
                assert echoed(connection, b"new") == b"new"


@pytest.mark.parametrize("end", ["refuse", "cut"])
def test_a_connection_taken_at_the_last_moment_is_closed(road: SlowProxy, end: str) -> None:
    """Else its socket would be reported to whoever runs when it is collected."""
    for _ in range(300):
        clients = [socket.socket() for _ in range(3)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", road.port))
        getattr(road, end)()
        road.cut()
        for client in clients:
            client.close()
        road.restore()
    gc.collect()


def test_a_server_that_is_not_there_breaks_the_connection_off() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        road = SlowProxy("127.0.0.1", reserved.getsockname()[1])
        # It may be off before the caller has finished connecting.
        with road, pytest.raises(ConnectionError), closing(connected(road)) as connection:
            connection.recv(1)


def test_leaving_ends_everything(echo: int) -> None:
    before = threading.active_count()
    with SlowProxy("127.0.0.1", echo) as road:
        connection = connected(road)
        road.freeze()
        road.delay(60)
    with closing(connection), pytest.raises(ConnectionError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connected(road)
    until_sync(lambda: threading.active_count() <= before)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost/3?protocol=3", "redis://127.0.0.1:7/3?protocol=3"),
        ("redis://me:p%40ss@db:6379/0", "redis://me:p%40ss@127.0.0.1:7/0"),
        ("postgresql+asyncpg://me@db/app", "postgresql+asyncpg://me@127.0.0.1:7/app"),
    ],
)
def test_a_url_leads_by_way_of_it(url: str, expected: str) -> None:
    road = SlowProxy.to(url)
    road.port = 7
    assert road.url(url) == expected


@pytest.mark.parametrize("url", ["sqlite:///file.db", "unix:///redis.sock", "memory://", "other://host"])
def test_a_url_without_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="host and a port"):
        SlowProxy.to(url)


async def test_a_front_behind_it_fails_in_time_and_comes_back(redis_url: str) -> None:
    before = await anyio.to_thread.run_sync(connections, redis_url)  # of the background of other tests
    async with SlowProxy.to(redis_url) as road:
        patient, front = RedisFront(redis_url, timeout=10), RedisFront(road.url(redis_url), timeout=0.2)
        assert await patient.apply([Step(MARK_READ, b"key")], TOKEN, 600_000) == [True]
        await patient.aclose()
        await recovered(front)
        for fault in (road.freeze, lambda: (road.half_open(), road.cut()), lambda: (road.refuse(), road.cut())):
            fault()
            with pytest.raises(FrontUnavailableError):
                await front.get([b"key"])
            road.restore()
            await recovered(front)
        await front.aclose()
    assert await anyio.to_thread.run_sync(left_open, redis_url) <= before


async def recovered(front: RedisFront) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                assert await front.get([b"key"]) == [b"R" + TOKEN]
                return
            except FrontUnavailableError:  # a connection that hung is being replaced
                await anyio.sleep(0.01)


async def test_an_answer_that_does_not_come_back_leaves_the_outcome_of_a_commit_unknown(postgres_url: str) -> None:
    store = SqlStore(postgres_url)
    await store.setup(create=True)
    async with SlowProxy.to(postgres_url) as road:
        behind = SqlStore(road.url(postgres_url), timeout=20)
        await behind.read([digest("a")], [])
        road.delay(60)
        before = road.received
        errors: list[StoreUnavailableError] = []

        async def write() -> None:
            with pytest.raises(StoreUnavailableError) as caught:
                await behind.write([entry("a")])
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.to_thread.run_sync(until_sync, lambda: road.received > before)
            road.cut()
        assert [error.outcome_known for error in errors] == [False]
        await behind.aclose()
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_it_can_be_used_from_trio(echo: int) -> None:
    async with SlowProxy("127.0.0.1", echo) as road, await anyio.connect_tcp("127.0.0.1", road.port) as stream:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        road.freeze()
        await stream.send(b"y")
        with anyio.move_on_after(0.05):
            await stream.receive()
            pytest.fail("nothing was to pass")
        road.thaw()
        assert await stream.receive() == b"y"


def test_synchronous_callers_are_served_while_the_front_is_cut_off(redis_url: str, sqlite_url: str) -> None:
    with SlowProxy.to(redis_url) as road:
        cache = TieredCache(road.url(redis_url), sqlite_url)
        cache.sync.set("k", 1)
        road.refuse()
        road.cut()
        assert cache.sync.get("k") == 1
        cache.close()
