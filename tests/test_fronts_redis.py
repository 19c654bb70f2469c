"""What only the Redis front promises: where it may come from, and what it does with connections."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

import anyio
import anyio.to_thread
import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from tests.servers import RedisServer, connections, left_open, redis_admin, redis_calls
from tiered_cache._errors import ConfigurationError, FrontUnavailableError
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, Step

pytestmark = pytest.mark.anyio

MINE = b"m\xff\0\r\n" + b"m" * 11
MARK_TTL = 10_000
MARKED = b"R" + MINE


async def mark(front: RedisFront, *keys: bytes) -> list[bytes | None]:
    await front.apply([Step(MARK_READ, key) for key in keys], MINE, MARK_TTL)
    return await front.get(keys)


@pytest.fixture
async def front(redis_url: str) -> AsyncGenerator[RedisFront]:
    front = RedisFront(redis_url, timeout=10)
    yield front
    await front.aclose()


# --- from a URL or a client -------------------------------------------------------------------------------------------

SOURCES: dict[str, Callable[[RedisServer], Any]] = {
    "URL": lambda server: server.url,
    "URL with settings": lambda server: (
        f"{server.url}?socket_timeout=3&protocol=3&decode_responses=yes&max_connections=1"
    ),
    "socket URL": lambda server: server.socket_url,
    "sync": lambda server: redis.Redis(port=server.port),
    "sync decoding": lambda server: redis.Redis(port=server.port, decode_responses=True, encoding="latin-1"),
    "sync from a URL": lambda server: cast("Any", redis.Redis).from_url(server.url, health_check_interval=1),
    "sync by socket": lambda server: redis.Redis(unix_socket_path=str(server.folder / "redis.sock")),
    "sync, pool": lambda server: redis.Redis(connection_pool=redis.BlockingConnectionPool(port=server.port)),
    "asyncio": lambda server: redis.asyncio.Redis(port=server.port),
    "asyncio decoding": lambda server: redis.asyncio.Redis(port=server.port, decode_responses=True, protocol=3),
    "asyncio, pool": lambda server: redis.asyncio.Redis(
        connection_pool=redis.asyncio.BlockingConnectionPool(port=server.port, timeout=1)
    ),
    "asyncio by socket": lambda server: redis.asyncio.Redis(unix_socket_path=str(server.folder / "redis.sock")),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
async def test_any_source_leads_to_the_same_server_and_to_bytes(
    spare_redis: RedisServer, source: Callable[[RedisServer], Any]
) -> None:
    front = RedisFront(source(spare_redis), timeout=10)
    assert await mark(front, b"key\xff") == [MARKED]
    with redis_admin(spare_redis.url) as admin:
        assert admin.get(b"key\xff") == MARKED
    await front.aclose()
    assert left_open(spare_redis.url) == 0


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_any_source_serves_one_loop_after_another(
    spare_redis: RedisServer, source: Callable[[RedisServer], Any]
) -> None:
    """Nobody closes it: its connections go with the loops they belong to, without a warning."""
    front = RedisFront(source(spare_redis), timeout=10)
    for i in range(3):
        assert asyncio.run(mark(front, b"%d" % i)) == [MARKED]
        assert left_open(spare_redis.url) == 0
    gc.collect()


FAKES: dict[str, Callable[[fakeredis.FakeServer], Any]] = {
    "FakeRedis": lambda server: fakeredis.FakeRedis(server=server),
    "FakeRedis decoding": lambda server: fakeredis.FakeRedis(server=server, decode_responses=True),
    "FakeStrictRedis": lambda server: fakeredis.FakeStrictRedis(server=server),
    "FakeAsyncRedis": lambda server: fakeredis.FakeAsyncRedis(server=server),
    "FakeAsyncRedis decoding": lambda server: fakeredis.FakeAsyncRedis(server=server, decode_responses=True),
}


@pytest.mark.parametrize("source", FAKES.values(), ids=FAKES)
def test_fakes_lead_to_the_fake_server_that_they_lead_to_themselves(
    source: Callable[[fakeredis.FakeServer], Any],
) -> None:
    server = fakeredis.FakeServer(version=(7,))
    front = RedisFront(source(server), timeout=10)
    for _ in range(2):
        assert asyncio.run(mark(front, b"key\xff")) == [MARKED]
    assert cast("Any", fakeredis.FakeRedis(server=server)).get(b"key\xff") == MARKED


def test_a_fake_without_a_named_server_is_still_itself() -> None:
    fake: Any = fakeredis.FakeRedis()
    assert asyncio.run(mark(RedisFront(fake, timeout=10), b"key")) == [MARKED]
    assert fake.get(b"key") == MARKED


async def test_a_client_given_is_neither_used_nor_closed(redis_url: str) -> None:
    client = cast("Any", redis.asyncio.Redis).from_url(redis_url)
    await client.set("mine", "1")
    front = RedisFront(client, timeout=10)
    await mark(front, b"key")
    assert connections(redis_url) == 2
    await front.aclose()
    assert connections(redis_url) == 1
    assert await client.get("mine") == b"1"
    await client.aclose()


class OwnConnection(redis.Connection):
    """Of somebody who has subclassed redis-py's synchronous one."""


SENTINEL: Any = redis.sentinel.Sentinel([("localhost", 1)])
ASYNC_SENTINEL: Any = redis.asyncio.sentinel.Sentinel([("localhost", 1)])


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("http://localhost", "redis://"),
        ("localhost:6379", "redis://"),
        ("redis://localhost:port", "redis://"),
        ("redis://localhost?socket_timeout=soon", "redis://"),
        ("redis://localhost?no_such_setting=1", "no_such_setting"),
        ("redis://localhost/main", "redis://"),
        ("redis://localhost/0/1", "redis://"),
        ("redis://localhost?db", "redis://"),
        (None, "NoneType"),
        (object(), "object"),
        (b"redis://localhost", "bytes"),
        (SENTINEL, "Sentinel"),
        (SENTINEL.master_for("main"), "Sentinel"),
        (ASYNC_SENTINEL.master_for("main"), "Sentinel"),
        (redis.asyncio.RedisCluster("localhost", 1), "Cluster"),
        (redis.Redis(redis_connect_func=print), "redis_connect_func"),
        (redis.Redis(connection_pool=redis.ConnectionPool(connection_class=OwnConnection)), "OwnConnection"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_once_and_by_name(source: object, names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        RedisFront(source)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@localhost:1/2",
        "redis://localhost:1/2?password=s3cret",
        "redis://user:s3cret/oops@localhost:1/2",
        "redis://:s3cret#oops@localhost:1/2",
        "redis://:53#oops@localhost:1/2",
        "redis://user:53?oops@localhost:1/2",
        "redis://user:53/oops@localhost:1/2",
        "rediss://user:s3cret@localhost:1/2?no_such_setting=s3cret",
        "http://user:s3cret@localhost",
    ],
)
def test_no_password_shows(url: str) -> None:
    try:
        shown = repr(RedisFront(url))
        assert shown == "RedisFront(localhost:1/2)"
    except ConfigurationError as error:
        shown = f"{error!r} {error} {error.__cause__!r}"
    assert "s3cret" not in shown
    assert "oops" not in shown
    assert "53" not in shown


async def test_on_trio_it_refuses_and_names_what_works_there() -> None:
    front = RedisFront("redis://localhost:1")

    def on_trio() -> None:
        with pytest.raises(ConfigurationError, match="asyncio"):
            anyio.run(mark, front, b"key", backend="trio")

    await anyio.to_thread.run_sync(on_trio)


def test_on_uvloop_it_works(redis_url: str) -> None:
    front = RedisFront(redis_url, timeout=10)
    for _ in range(2):
        assert anyio.run(mark, front, b"key", backend_options={"use_uvloop": True}) == [MARKED]
    assert left_open(redis_url) == 0


# --- commands and connections -----------------------------------------------------------------------------------------


async def test_a_read_is_one_plain_command_and_a_batch_of_steps_one_script(front: RedisFront, redis_url: str) -> None:
    await mark(front, b"warm")
    before = redis_calls(redis_url)
    await front.get([b"%d" % i for i in range(500)])
    assert Counter({"MGET": 1}) == _commands(redis_calls(redis_url) - before)
    before = redis_calls(redis_url)
    await front.apply([Step(MARK_WRITE, b"%d" % i) for i in range(500)], MINE, MARK_TTL)
    assert Counter({"EVALSHA": 1, "GET": 500, "SET": 500}) == _commands(redis_calls(redis_url) - before)


def _commands(calls: Counter[str]) -> Counter[str]:
    return Counter({name: n for name, n in calls.items() if name not in ("CLIENT", "CLIENT|SETINFO", "INFO", "HELLO")})


async def test_of_several_replies_an_error_leaves_the_connection_in_step(spare_redis: RedisServer) -> None:
    with redis_admin(spare_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pass", "~*", "&*", "+@all", "-pttl")
        client.mset({b"a": b"Va", b"b": b"Vb"})
    front = RedisFront(spare_redis.url.replace("redis://", "redis://app:pass@"), timeout=10)
    for _ in range(3):
        with pytest.raises(FrontUnavailableError, match="PTTL"):
            await front.read([b"a", b"b"])
        assert await front.get([b"b", b"a"]) == [b"Vb", b"Va"]
    assert connections(spare_redis.url) == 1
    await front.aclose()


async def test_a_script_that_the_server_has_forgotten_is_sent_again(front: RedisFront, redis_url: str) -> None:
    with redis_admin(redis_url) as admin:
        for i in range(3):
            admin.script_flush()
            assert await mark(front, b"%d" % i) == [MARKED]


async def test_a_connection_that_the_server_closed_is_replaced_without_a_trace(redis_url: str) -> None:
    front = RedisFront(redis_url, max_connections=4, timeout=10)
    async with anyio.create_task_group() as crowd:
        for i in range(8):
            crowd.start_soon(mark, front, b"%d" % i)
    with redis_admin(redis_url) as admin:
        for i in range(3):
            killed = admin.client_kill_filter(_type="normal", skipme=True)
            assert killed == (4 if i == 0 else 1)
            assert await front.apply([Step(SETTLE_READ, b"%d" % i, b"V", 60_000)], MINE, MARK_TTL) == [True]
    await front.aclose()
    assert left_open(redis_url) == 0


def opened_so_far(url: str) -> int:
    with redis_admin(url) as admin:
        return admin.info("stats")["total_connections_received"]


async def test_a_crowd_opens_no_more_connections_than_allowed_and_loses_nothing(redis_url: str) -> None:
    front = RedisFront(redis_url, max_connections=3, timeout=30)
    await mark(front, *(b"%d" % i for i in range(1_000)))
    answers: list[bytes | None] = []

    async def ask(i: int) -> None:
        answers.extend(await front.get([b"%d" % i]))

    before = opened_so_far(redis_url)
    async with anyio.create_task_group() as crowd:
        for i in range(1_000):
            crowd.start_soon(ask, i)
    opened = opened_so_far(redis_url) - before - 1  # the one of asking
    assert answers == [MARKED] * 1_000
    assert opened <= 2
    assert connections(redis_url) == 3
    await front.aclose()


async def test_closing_it_closes_its_connections_on_every_loop(redis_url: str) -> None:
    front = RedisFront(redis_url, timeout=10)
    open_there, leave = anyio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()
    loops: list[asyncio.AbstractEventLoop] = []

    async def elsewhere() -> None:
        await mark(front, b"there")
        loops.append(asyncio.get_running_loop())
        here.call_soon_threadsafe(open_there.set)
        await leave.wait()

    async with anyio.create_task_group() as threads:
        threads.start_soon(anyio.to_thread.run_sync, lambda: asyncio.run(elsewhere()))
        await mark(front, b"here")
        await open_there.wait()
        assert connections(redis_url) == 2
        await front.aclose()
        assert left_open(redis_url) == 0
        loops[0].call_soon_threadsafe(leave.set)


async def test_what_is_under_way_when_it_is_closed_is_answered_and_leaves_no_connection(redis_url: str) -> None:
    front = RedisFront(redis_url, timeout=10)
    await mark(front, b"key")
    answers: list[bytes | None] = []

    async def ask() -> None:
        answers.extend(await front.get([b"key"]))

    with redis_admin(redis_url) as admin:
        admin.client_pause(500)
        async with anyio.create_task_group() as calls:
            calls.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await front.aclose()
            assert answers == []
    assert answers == [MARKED]
    assert await anyio.to_thread.run_sync(left_open, redis_url) == 0


async def test_a_front_dropped_without_closing_leaves_no_connection_and_no_warning(redis_url: str) -> None:
    await mark(RedisFront(redis_url, timeout=10), b"key")
    assert await anyio.to_thread.run_sync(left_open, redis_url) == 0
    gc.collect()
