"""Clearing costs the same however much there is to clear, and touches nothing that is not ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.servers import redis_admin, redis_calls
from tests.worlds import World
from tiered_cache import MISSING, TieredCache

FORBIDDEN = ("KEYS", "SCAN", "FLUSHDB", "FLUSHALL", "HSCAN", "SSCAN", "UNLINK")
MANY = 100_000


@contextmanager
def statements() -> Generator[list[str]]:
    """The statements that any engine executes meanwhile."""
    seen: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def fill(cache: TieredCache, entries: int) -> None:
    space = cache.namespace("full")
    for start in range(0, entries, 5000):
        await space.set_many({f"k{n}": n for n in range(start, min(entries, start + 5000))})


@pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)
async def test_a_clear_costs_the_same_with_ten_and_with_a_hundred_thousand_entries(world: World) -> None:
    costs: list[tuple[list[str], dict[str, int]]] = []
    for entries in (10, MANY):
        async with TieredCache(world.front, world.store, front_timeout=10, store_timeout=60, mark_ttl=120) as cache:
            await cache.namespace("full").clear()  # so that both find the watermark in the front
            await fill(cache, entries)
            before = redis_calls(world.front) if world.name == "servers" else None
            with statements() as seen:
                await cache.namespace("full").clear()
            commands = dict(redis_calls(world.front) - before) if before is not None else {}
            assert not set(FORBIDDEN) & commands.keys()
            assert not any("DELETE" in statement for statement in seen)
            costs.append((list(seen), commands))
            assert await cache.namespace("full").get("k1", MISSING) is MISSING
    assert costs[0] == costs[1]


@pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)
async def test_space_comes_back_in_small_batches(world: World) -> None:
    async with TieredCache(world.front, world.store, front_timeout=10, reclaim_rows=100) as cache:
        await fill(cache, 1000)
        await cache.namespace("kept").set("k", "kept")
        await cache.namespace("full").clear()
        await cache.namespace("full").set("k1", "new")
        removed: list[int] = []
        while reclaimed := await cache.reclaim():
            removed.append(reclaimed)
        assert sum(removed) == 999
        assert max(removed) <= 100
        assert await cache.namespace("kept").get("k") == "kept"
        assert await cache.namespace("full").get("k1") == "new"


@pytest.mark.parametrize("world", ["servers"], indirect=True)
async def test_erasing_leaves_neither_rows_nor_cells_and_what_others_keep_in_this_redis(world: World) -> None:
    with redis_admin(world.front) as redis:
        redis.set("somebody:else", "x")
        async with TieredCache(world.front, world.store, front_timeout=10) as cache:
            before = redis_calls(world.front)
            await fill(cache, 700)
            below = cache.namespace("full", "below")
            await below.set("k", 1)
            await cache.namespace("beside").set("k", "beside")
            assert await cache.namespace("full").erase() == 701
            assert await below.get("k", MISSING) is MISSING
            assert await cache.namespace("beside").get("k") == "beside"
            # Of ours are left: the cell beside, and the watermarks of the namespaces in which was read.
            assert redis.dbsize() <= 1 + 1 + 4
        assert redis.get("somebody:else") in (b"x", "x")
        assert not set(FORBIDDEN) & (redis_calls(world.front) - before).keys()
