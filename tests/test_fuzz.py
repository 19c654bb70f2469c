"""A few thousand of the cases that `python -m tests.fuzz` tries by the million; and what only real tiers can hold."""

from __future__ import annotations

import logging
import random
from collections.abc import Generator
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.fuzz import FuzzError, fuzz, play
from tests.servers import redis_admin
from tiered_cache import MISSING, TieredCache, _look
from tiered_cache._cells import Value


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """A store whose rows are damaged is one that many lines are said of."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def test_a_damaged_cell_or_row_is_a_counted_miss_and_never_another_value() -> None:
    assert await fuzz(6000) >= 6000


def any_envelope(digest: bytes, envelope: bytes) -> bool:
    return len(envelope) > 6


def any_cell(digest: bytes, cell: bytes) -> Value | None:
    return Value(int.from_bytes(cell[1:9], "big"), cell[13:]) if len(cell) >= 13 else None


def always(cell: bytes) -> bool:
    return True


@pytest.mark.parametrize(
    ("check", "careless"), [("intact", any_envelope), ("read_value", any_cell), ("is_mark", always)]
)
async def test_without_a_check_it_is_found_out(monkeypatch: pytest.MonkeyPatch, check: str, careless: Any) -> None:
    monkeypatch.setattr(_look, check, careless)
    with pytest.raises(FuzzError):
        await fuzz(6000)


async def test_a_round_replays() -> None:
    assert await play(7) == await play(7)


FOREIGN: dict[str, tuple[Any, ...]] = {
    "a list": ("RPUSH", "a"),
    "a hash": ("HSET", "a", "b"),
    "a set": ("SADD", "a"),
    "a stream": ("XADD", "*", "a", "b"),
    "an empty text": ("SET", ""),
    "a text without an expiry": ("SET", "somebody else's"),
}


@pytest.mark.parametrize("what", FOREIGN)
async def test_what_somebody_else_put_into_redis_is_a_miss_and_is_replaced(
    redis_url: str, sqlite_url: str, what: str
) -> None:
    cache = TieredCache(redis_url, sqlite_url, front_timeout=5)
    space = cache.namespace("n")
    await space.set_many({"k": 1, "l": 2})
    assert await space.get_many(["k", "l"]) == {"k": 1, "l": 2}
    command, *arguments = FOREIGN[what]
    with redis_admin(redis_url) as redis:
        for key in redis.keys("tiered_cache:*"):
            redis.delete(key)
            redis.execute_command(command, key, *arguments)
    for _ in range(3):
        assert await space.get_many(["k", "l"]) == {"k": 1, "l": 2}
    hits = cache.stats().hits_front
    assert await space.get_many(["k", "l"]) == {"k": 1, "l": 2}
    assert cache.stats().hits_front == hits + 2
    await cache.aclose()


async def test_rows_that_somebody_changed_by_sql_are_misses(redis_url: str, sqlite_url: str) -> None:
    cache = TieredCache(redis_url, sqlite_url, front_timeout=5)
    dice = random.Random(1)
    names = [f"k{n}" for n in range(40)]
    await cache.set_many(dict.fromkeys(names, "value"))
    engine = create_engine(sqlite_url)
    with engine.begin() as conn:
        for digest, envelope in conn.execute(text("SELECT digest, envelope FROM tiered_cache_entry")).all():
            for column, value in dice.choice(
                [
                    [("envelope", envelope[: dice.randrange(len(envelope))])],
                    [("envelope", b"")],
                    [("envelope", "a text and no bytes")],
                    [("version", -1)],
                    [("version", 2**63 - 1), ("envelope", dice.randbytes(200))],
                    [("expires", 0)],
                ]
            ):
                change = text(f"UPDATE tiered_cache_entry SET {column} = :value WHERE digest = :digest")
                conn.execute(change, {"value": value, "digest": digest})
    engine.dispose()
    with redis_admin(redis_url) as redis:
        redis.flushall()
    assert await cache.get_many(names) == {}
    assert cache.stats().corrupt > 0
    assert await cache.get("k1", MISSING) is MISSING
    await cache.set("k1", "new")
    assert await cache.get("k1") == "new"
    await cache.aclose()
