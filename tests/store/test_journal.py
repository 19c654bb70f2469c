"""What the front could not be told of is recorded with the change itself: not without it, and at no further cost."""

from __future__ import annotations

import pytest

from tests.store.conftest import SHARED, Place, Statements
from tiered_cache._errors import StoreUnavailableError
from tiered_cache.testing._entries import A, digest, entry

CELLS = [b"front:aa", b"front:bb"]


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
    assert list(await store.journal(b"", 100)) == []


@pytest.mark.parametrize("place", ["asyncpg", "psycopg"], indirect=True)
async def test_on_postgres_a_journal_costs_no_further_statement(place: Place) -> None:
    store = await place.ready()
    with Statements() as statements:
        await store.write([entry("a")], CELLS)
        await store.delete([digest("a")], CELLS)
        await store.clear(A, CELLS)
        await store.acknowledge(await store.journal(b"", 100))
    assert len(statements.texts) == 5
