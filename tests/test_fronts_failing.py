"""P4 for the Redis front: what no longer answers is FrontUnavailableError, in time, by a message that helps."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import fakeredis
import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from tests.servers import RedisServer, free_port, left_open, redis_admin
from tiered_cache._errors import FrontUnavailableError
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_WRITE, Step

pytestmark = pytest.mark.anyio

MINE = b"m" * 16
MARK_TTL = 10_000
SECRET_KEY = b"what-was-asked"


async def put(front: RedisFront, key: bytes, cell: bytes) -> None:
    await front.apply([Step(MARK_WRITE, key)], MINE, MARK_TTL)
    assert await front.apply([Step(SETTLE_WRITE, key, cell, 600_000)], MINE, MARK_TTL) == [True]


async def both_fail(front: RedisFront, hint: str) -> None:
    """Reads and steps fail with a message that holds `hint`, and no key."""
    for steps in (None, [Step(MARK_READ, SECRET_KEY)]):
        with pytest.raises(FrontUnavailableError, match=hint) as caught:
            await (front.apply(steps, MINE, MARK_TTL) if steps else front.get([SECRET_KEY]))
        assert caught.value.__cause__ is not None
        assert SECRET_KEY.decode() not in "".join(traceback.format_exception_only(caught.value))


@pytest.fixture
async def front(spare_redis: RedisServer) -> AsyncGenerator[RedisFront]:
    front = RedisFront(spare_redis.url, max_connections=4, timeout=10)
    yield front
    await front.aclose()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_nobody_there(scheme: str) -> None:
    await both_fail(RedisFront(f"{scheme}://user:s3cret@127.0.0.1:{free_port()}/0", timeout=10), "is it running")


async def test_no_such_socket(tmp_path: Any) -> None:
    await both_fail(RedisFront(f"unix://{tmp_path}/no.sock", timeout=10), "failed")


async def test_no_such_host() -> None:
    await both_fail(RedisFront("redis://no-such-host.invalid", timeout=10), "is it running|in time|within")


async def test_a_fake_that_is_cut_off() -> None:
    server = fakeredis.FakeServer(version=(7,))
    front = RedisFront(fakeredis.FakeAsyncRedis(server=server), timeout=10)
    await put(front, b"key", b"V")
    server.connected = False
    await both_fail(front, "failed")
    server.connected = True
    assert await front.get([b"key"]) == [b"V"]


async def test_a_server_that_stops_and_comes_back(front: RedisFront, spare_redis: RedisServer) -> None:
    await put(front, b"key", b"V")
    spare_redis.kill()
    await both_fail(front, "is it running")
    spare_redis.start()
    await put(front, b"key", b"V-new")
    assert await front.get([b"key"]) == [b"V-new"]


@pytest.mark.parametrize("connected", [True, False], ids=["kept connection", "new connection"])
async def test_a_frozen_server_costs_the_timeout_and_no_more(spare_redis: RedisServer, connected: bool) -> None:
    front = RedisFront(spare_redis.url, timeout=0.25)
    if connected:
        await front.get([b"key"])
    spare_redis.freeze()
    for _ in range(2):
        started = time.monotonic()
        await both_fail(front, "0.25 s")
        assert 0.5 <= time.monotonic() - started < 3
    spare_redis.thaw()
    await put(RedisFront(spare_redis.url, timeout=10), b"key", b"V")
    assert await front.get([b"key"]) == [b"V"]
    await front.aclose()


async def test_what_a_crowd_asked_of_a_frozen_server_all_fails_in_time(spare_redis: RedisServer) -> None:
    """Those that wait for a connection too."""
    front = RedisFront(spare_redis.url, max_connections=2, timeout=0.25)
    spare_redis.freeze()
    failed: list[bytes] = []

    async def ask(key: bytes) -> None:
        with pytest.raises(FrontUnavailableError):
            await front.get([key])
        failed.append(key)

    started = time.monotonic()
    async with anyio.create_task_group() as crowd:
        for i in range(50):
            crowd.start_soon(ask, b"%d" % i)
    assert len(failed) == 50
    assert time.monotonic() - started < 3
    spare_redis.thaw()
    await front.aclose()
    assert await anyio.to_thread.run_sync(left_open, spare_redis.url) == 0


async def test_a_listener_that_never_answers_costs_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        await both_fail(RedisFront(f"redis://127.0.0.1:{port}/1", timeout=0.1), "0.1 s")


async def test_what_does_not_speak_redis_is_no_front() -> None:
    async def answer(stream: Any) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await both_fail(RedisFront(f"redis://127.0.0.1:{port}", timeout=10), "protocol of Redis")
        tasks.cancel_scope.cancel()


# --- servers that answer with an error --------------------------------------------------------------------------------


@contextmanager
def configured(server: RedisServer, **settings: object) -> Generator[Any]:
    with redis_admin(server.url) as admin:
        for name, value in settings.items():
            admin.config_set(name.replace("_", "-"), value)
        yield admin


async def test_a_full_server_fails_and_keeps_no_value_that_was_to_be_marked(
    front: RedisFront, spare_redis: RedisServer
) -> None:
    """Emptied is as good as marked and dropped: what was there before the write is not read any more."""
    await put(front, b"1", b"V-old")
    await put(front, b"2", b"V-old")
    with configured(spare_redis, maxmemory=1, maxmemory_policy="noeviction"):
        with pytest.raises(FrontUnavailableError, match="maxmemory-policy"):
            await front.apply([Step(MARK_WRITE, key) for key in (b"1", b"2", b"3")], MINE, MARK_TTL)
        assert set(await front.get([b"1", b"2", b"3"])) <= {None, b"W0" + MINE}


async def test_a_server_that_fills_up_between_mark_and_settle_keeps_no_value(
    front: RedisFront, spare_redis: RedisServer
) -> None:
    await front.apply([Step(MARK_WRITE, b"key")], MINE, MARK_TTL)
    with configured(spare_redis, maxmemory=1, maxmemory_policy="noeviction"):
        with pytest.raises(FrontUnavailableError, match="maxmemory-policy"):
            await front.apply([Step(SETTLE_WRITE, b"key", b"V", 60_000)], MINE, MARK_TTL)
        assert await front.get([b"key"]) == [None]


async def test_a_replica_fails_and_is_named(front: RedisFront, spare_redis: RedisServer) -> None:
    await put(front, b"key", b"V")
    with redis_admin(spare_redis.url) as admin:
        admin.replicaof("127.0.0.1", free_port())
        with pytest.raises(FrontUnavailableError, match="replica"):
            await front.apply([Step(MARK_WRITE, b"key")], MINE, MARK_TTL)
        admin.config_set("replica-serve-stale-data", "no")
        await both_fail(front, "failed")
        admin.replicaof("no", "one")
    await put(front, b"key", b"V")


async def test_a_server_busy_with_somebody_elses_script_fails(front: RedisFront, spare_redis: RedisServer) -> None:
    await put(front, b"key", b"V")
    with configured(spare_redis, lua_time_limit=1) as admin:
        hog: Any = redis.Redis(port=spare_redis.port, socket_timeout=60)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, _ends_in_an_error(lambda: hog.eval("while true do end", 0)))
            await _until_busy(admin)
            await both_fail(front, "failed")
            admin.script_kill()
        hog.close()
    assert await front.get([b"key"]) == [b"V"]


async def _until_busy(admin: Any) -> None:
    while True:
        try:
            admin.get("any")
        except redis.ResponseError:
            return
        await anyio.sleep(0.01)


def _ends_in_an_error(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        with pytest.raises(redis.RedisError):
            call()

    return run


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:{}", "redis://:wr0ng@127.0.0.1:{}", "redis://me:wr0ng@127.0.0.1:{}/1"]
)
async def test_a_wrong_password_is_named_but_not_shown(spare_redis: RedisServer, url: str) -> None:
    with configured(spare_redis, requirepass="r1ght"):
        pass
    front = RedisFront(url.format(spare_redis.port), timeout=10)
    with pytest.raises(FrontUnavailableError, match="user and the password") as caught:
        await front.get([b"key"])
    assert "wr0ng" not in "".join(traceback.format_exception(caught.value))
    right = RedisFront(f"redis://:r1ght@127.0.0.1:{spare_redis.port}", timeout=10)
    await put(right, b"key", b"V")
    await right.aclose()


async def test_a_user_who_may_not_is_told_what_it_takes(spare_redis: RedisServer) -> None:
    with redis_admin(spare_redis.url) as admin:
        admin.acl_setuser("guest", enabled=True, passwords=["+pw"], commands=["+ping", "+select"])
    await both_fail(RedisFront(f"redis://guest:pw@127.0.0.1:{spare_redis.port}", timeout=10), "EVALSHA")


async def test_a_database_that_does_not_exist_leaves_no_connection(spare_redis: RedisServer) -> None:
    front = RedisFront(f"redis://127.0.0.1:{spare_redis.port}/99", timeout=10)
    await both_fail(front, "failed")
    assert await anyio.to_thread.run_sync(left_open, spare_redis.url) == 0


async def test_credentials_that_cannot_be_had_are_an_outage_and_no_crash(spare_redis: RedisServer) -> None:
    class Broken(redis.CredentialProvider):
        def get_credentials(self) -> Any:
            raise LookupError("no token")

    client = AsyncRedis(port=spare_redis.port, credential_provider=Broken())
    await both_fail(RedisFront(client, timeout=10), "failed")
    assert await anyio.to_thread.run_sync(left_open, spare_redis.url) == 0
