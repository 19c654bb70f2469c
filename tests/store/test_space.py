"""Clearing costs the same however much is cleared, and what it leaves behind is removed a little at a time."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import text

from tests.servers import admin
from tests.store.conftest import POSTGRES, SHARED, Place, Statements, until_blocked
from tiered_cache._sql import SqlStore, _statements
from tiered_cache.testing import ManualClock
from tiered_cache.testing._entries import A, Emptied, digest, drained, entry, left

REWRITE = "UPDATE tiered_cache_entry SET version = version + 1000, expires = NULL WHERE digest = :digest"
FILL = {
    "sqlite": """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :n)
        INSERT INTO tiered_cache_entry (digest, address, version, envelope)
        SELECT CAST(printf('%032d', i) AS BLOB), CAST('AAAAAAAAAAAAAAAA' AS BLOB), 1, x'00' FROM n
    """,
    "asyncpg": """
        INSERT INTO tiered_cache_entry (digest, address, version, envelope)
        SELECT CAST(lpad(CAST(i AS text), 32, '0') AS bytea), 'AAAAAAAAAAAAAAAA', 1, '' FROM generate_series(1, :n) AS i
    """,
}


@pytest.mark.parametrize("place", FILL, indirect=True)
async def test_a_clear_is_as_many_statements_with_100_000_entries_as_with_10(place: Place) -> None:
    async def clears() -> list[str]:
        with Statements() as seen:
            await store.clear(A)
            await store.clear(b"")
        return seen.texts

    store = await place.ready()
    with place.admin().begin() as conn:
        conn.execute(text(FILL[place.kind]), {"n": 10})
    few = await clears()
    with place.admin().begin() as conn:
        conn.execute(text("DELETE FROM tiered_cache_entry"))
        conn.execute(text(FILL[place.kind]), {"n": 100_000})
    assert await clears() == few
    assert not [statement for statement in few if "entry" in statement]


async def test_what_is_reclaimed_is_not_looked_for_again_until_the_next_clear(store: SqlStore) -> None:
    await store.write([entry(i) for i in range(5)])
    await store.clear(A)
    assert await drained(store, 100) == [5]
    with Statements() as seen:
        assert await store.reclaim(100, Emptied()) == 0
    assert not [statement for statement in seen.texts if "entry.address" in statement]
    await store.write([entry(1)])
    await store.clear(b"")
    assert await drained(store, 100) == [1]


async def test_rows_that_live_on_in_a_cleared_range_are_looked_at_once(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tenth of 200 rows is dead. Starting anew for each batch would look at thousands."""
    monkeypatch.setattr(_statements, "_PAGE_ROWS", 10)
    keys = sorted(digest(i) for i in range(200))
    await store.write([entry("x")._replace(digest=key) for key in keys])
    await store.clear(A)
    await store.write([entry("x")._replace(digest=key) for i, key in enumerate(keys) if i % 10])
    with Statements() as seen:
        assert await drained(store, 1) == [1] * 20
    pages = [statement for statement in seen.texts if "ORDER BY tiered_cache_entry.address" in statement]
    assert len(pages) <= 2 * 20 + 1
    assert len((await store.read(keys, [])).rows) == 180


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
async def test_reclaiming_never_waits_for_a_writer_and_comes_back_for_the_row(place: Place) -> None:
    store = await place.ready(timeout=2)
    await store.write([entry("held"), entry("free"), entry("rewritten")])
    await store.clear(A)
    with admin(place.url) as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT 1 FROM tiered_cache_entry WHERE digest = %s FOR UPDATE", [digest("held")])
        changed = "UPDATE tiered_cache_entry SET version = version + 1000 WHERE digest = %s"
        writer.execute(changed, [digest("rewritten")])
        assert await store.reclaim(100, Emptied()) == 1
        writer.execute("COMMIT")
    assert await drained(store, 100) == [1]
    assert await left(store, "held", "free", "rewritten") == {"rewritten"}


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
async def test_erasing_waits_for_a_writer_since_it_must_know(place: Place) -> None:
    store = await place.ready()
    await store.write([entry("held"), entry("free")])
    await store.clear(A)
    erased: list[int] = []

    async def erase() -> None:
        erased.append(await store.erase(A, 10, Emptied()))

    with admin(place.url) as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT 1 FROM tiered_cache_entry WHERE digest = %s FOR UPDATE", [digest("held")])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(erase)
            await anyio.to_thread.run_sync(until_blocked, place.url, 1)
            writer.execute("ROLLBACK")
    assert erased == [2]


def before_the_removal(do: Callable[[], None]) -> Statements:
    """A gate between finding rows and removing them."""
    seen = Statements()

    def look(statement: str) -> None:
        # SQLite has to be locked to remove, so there nothing can happen any later than this.
        if statement == "BEGIN IMMEDIATE" or "DELETE" in statement:
            seen.before = lambda _: None
            do()

    seen.before = look
    return seen


@pytest.mark.parametrize("way", ["expired", "cleared", "erased"])
@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_a_row_rewritten_after_it_was_found_stays(place: Place, clock: ManualClock, way: str) -> None:
    assert await rewritten_in_between(await place.ready(clock=clock), place, clock, way) == {"a"}


@pytest.mark.parametrize("way", ["expired", "cleared", "erased"])
@pytest.mark.parametrize("place", ["sqlite", "asyncpg"], indirect=True)
async def test_removal_of_what_was_found_would_lose_it(place: Place, clock: ManualClock, way: str) -> None:
    """The naive twin, under the same gate: it removes by digest alone."""
    store = await place.ready(clock=clock)
    naive = store._dialect.removal(wait=False)
    store._statements._remove_expired = naive
    store._statements._remove_cleared = {True: naive, False: naive}
    assert await rewritten_in_between(store, place, clock, way) == set()


async def rewritten_in_between(store: SqlStore, place: Place, clock: ManualClock, way: str) -> set[object]:
    engine = place.admin()

    def rewrite() -> None:
        with engine.begin() as conn:
            conn.execute(text(REWRITE), {"digest": digest("a")})

    if way == "expired":
        await store.write([entry("a", ttl=1), entry("b", ttl=1)])
        clock.advance(1)
    else:
        await store.write([entry("a"), entry("b")])
        await store.clear(A)
    with before_the_removal(rewrite):
        if way == "erased":
            await store.erase(A, 10, Emptied())
        else:
            await store.reclaim(10, Emptied())
    assert not await left(store, "b")
    return await left(store, "a")
