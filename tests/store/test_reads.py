"""Reads that take several statements: what `StoreSuite` promises of every store holds for them as well."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from tests.store.conftest import SQLITE, Place, Statements
from tiered_cache.testing._entries import digest, entry


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_read_in_several_statements_sees_one_moment(place: Place) -> None:
    """Somebody deletes and clears everything between two of them."""
    store, other = await place.ready(), place.admin()
    entries = [entry(i) for i in range(2000)]
    await store.write(entries)

    def meddle(statement: str) -> None:
        if seen.texts.count(statement) == 1 and "UNION" in statement:
            with other.begin() as conn:
                conn.exec_driver_sql("DELETE FROM tiered_cache_entry")
                conn.exec_driver_sql("INSERT INTO tiered_cache_watermark (address, version) VALUES (x'', 99999)")

    seen = Statements()
    seen.before = meddle
    with seen:
        found = await store.read([e.digest for e in entries], [b""])
    assert len(found.rows) == 2000
    assert found.watermarks == {}
    found = await store.read([e.digest for e in entries], [b""])
    assert found == ({}, {b"": 99999})


@pytest.mark.parametrize("place", [kind for kind in SQLITE if kind != "memory"], indirect=True)
async def test_reading_leaves_no_transaction_behind_that_would_stop_a_writer(place: Place) -> None:
    store = await place.ready()
    await store.write([entry(i) for i in range(3)])
    await store.read([digest(i) for i in range(3000)], [])
    engine = create_engine(place.url, connect_args={"timeout": 0})
    with engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM tiered_cache_entry")
    engine.dispose()
