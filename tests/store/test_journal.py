"""What the front could not be told of: recorded with the change itself, listed, and gone once acknowledged."""

from __future__ import annotations

import anyio
import pytest

from tests.store.conftest import SHARED, A, Place, Statements, digest, entry
from tiered_cache._errors import StoreUnavailableError
from tiered_cache._sql import SqlStore
from tiered_cache._tiers import Notice

CELLS = [b"front:aa", b"front:bb"]


async def cells(store: SqlStore, prefix: bytes = b"", limit: int = 100) -> list[bytes]:
    return [notice.cell for notice in await store.journal(prefix, limit)]


async def test_every_change_can_be_recorded(store: SqlStore) -> None:
    await store.write([entry("a")], [b"written"])
    await store.delete([digest("a")], [b"deleted"])
    watermark = await store.clear(A, [b"cleared"])
    assert sorted(await cells(store)) == [b"cleared", b"deleted", b"written"]
    found = await store.read([digest("a")], [A])
    assert found == ({}, {A: watermark})


async def test_what_is_recorded_twice_is_listed_once_with_a_higher_version(store: SqlStore) -> None:
    await store.write([entry("a")], CELLS)
    before = await store.journal(b"", 100)
    await store.write([entry("a")], CELLS[:1])
    after = await store.journal(b"", 100)
    assert [notice.cell for notice in after] == CELLS
    assert after[0].version > before[0].version
    assert after[1] == before[1]


async def test_a_notice_that_was_recorded_again_outlives_its_acknowledgement(store: SqlStore) -> None:
    await store.write([entry("a")], CELLS)
    seen = await store.journal(b"", 100)
    await store.delete([digest("a")], CELLS[1:])
    await store.acknowledge(seen)
    assert await cells(store) == CELLS[1:]
    await store.acknowledge(await store.journal(b"", 100))
    await store.acknowledge([Notice(b"nobody", 1)])
    await store.acknowledge([])
    assert await cells(store) == []


async def test_only_what_begins_with_the_prefix_is_listed_and_no_more_than_asked_for(store: SqlStore) -> None:
    names = [b"a:1", b"a:2", b"a:3", b"a;", b"a", b"b:1", b"\xff\xff", b"\xff"]
    await store.write([entry("a")], names)
    assert await cells(store, b"a:") == [b"a:1", b"a:2", b"a:3"]
    assert await cells(store, b"a:", 2) == [b"a:1", b"a:2"]
    assert await cells(store, b"\xff") == [b"\xff", b"\xff\xff"]
    assert await cells(store) == sorted(names)


async def test_thousands_of_cells_fit_one_change(store: SqlStore) -> None:
    many = [b"front:%05d" % n for n in range(3000)]
    await store.delete([digest("a")], many)
    assert await cells(store, b"front:", 5000) == many
    await store.acknowledge(await store.journal(b"front:", 5000))
    assert await cells(store) == []


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_a_change_that_fails_records_nothing(place: Place) -> None:
    store = await place.ready()

    def refuse(statement: str) -> None:
        if "entry" in statement and "INSERT" in statement:
            raise OSError("as planned")

    with Statements() as statements:
        statements.before = refuse
        with pytest.raises(StoreUnavailableError):
            await store.write([entry("a")], CELLS)
    assert await cells(store) == []


@pytest.mark.parametrize("place", ["asyncpg", "psycopg"], indirect=True)
async def test_on_postgres_a_journal_costs_no_further_statement(place: Place) -> None:
    store = await place.ready()
    with Statements() as statements:
        await store.write([entry("a")], CELLS)
        await store.delete([digest("a")], CELLS)
        await store.clear(A, CELLS)
        await store.acknowledge(await store.journal(b"", 100))
    assert len(statements.texts) == 5


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_recording_and_acknowledging_at_once_never_deadlock(place: Place) -> None:
    """In any order of cells, from several connections: a deadlock would be a change that fails."""
    store = await place.ready()
    many = [b"front:%02d" % n for n in range(40)]

    async def record(step: int) -> None:
        for n in range(15):
            await store.write([entry(i) for i in range(8)], many[::step])
            await store.delete([digest(n)], many[::-step])

    async def acknowledge() -> None:
        for _ in range(15):
            await store.acknowledge(list(reversed(await store.journal(b"", 100))))

    async with anyio.create_task_group() as tasks:
        for step in (1, -1, 2):
            tasks.start_soon(record, step)
            tasks.start_soon(acknowledge)
    await store.acknowledge(await store.journal(b"", 100))
    assert await cells(store) == []
