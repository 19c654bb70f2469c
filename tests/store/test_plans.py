"""No statement looks at more rows than it must, with many rows, whether or not the database has statistics of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from tests.store.conftest import Place
from tiered_cache._sql import SqlStore
from tiered_cache._tiers import Entry
from tiered_cache.testing._entries import Emptied

ROWS = 100_000
FILL = {
    "sqlite": [
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :n)
        INSERT INTO tiered_cache_entry (digest, address, version, expires, name, envelope)
        SELECT CAST(printf('%032d', i) AS BLOB), CAST(printf('%016d', i % 100) AS BLOB), i,
            CASE WHEN i % 2 THEN 99999999999999 END, x'73', CAST('envelope' AS BLOB) FROM n
        """,
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :n)
        INSERT INTO tiered_cache_watermark (address, version, reclaimed)
        SELECT CAST(printf('%016d', i) AS BLOB), i % 100, 100 FROM n
        """,
    ],
    "psycopg": [
        """
        INSERT INTO tiered_cache_entry (digest, address, version, expires, name, envelope)
        SELECT CAST(lpad(CAST(i AS text), 32, '0') AS bytea), CAST(lpad(CAST(i % 100 AS text), 16, '0') AS bytea), i,
            CASE WHEN i % 2 = 1 THEN 99999999999999 END, 's', 'envelope' FROM generate_series(1, :n) AS i
        """,
        """
        INSERT INTO tiered_cache_watermark (address, version, reclaimed)
        SELECT CAST(lpad(CAST(i AS text), 16, '0') AS bytea), i % 100, 100 FROM generate_series(1, :n) AS i
        """,
    ],
}
TOUCHED = ("tiered_cache_entry", "tiered_cache_watermark")


class Seen:
    """What was executed, with its parameters, so that it can be explained."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __call__(self, _conn: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        self.calls.append((statement, parameters))


@pytest.fixture
def seen() -> Generator[Seen]:
    seen = Seen()
    event.listen(Engine, "before_cursor_execute", seen)
    yield seen
    event.remove(Engine, "before_cursor_execute", seen)


def explained(engine: Engine, seen: Seen) -> dict[str, str]:
    """The plan of every statement on the big tables that was seen."""
    calls = [call for call in seen.calls if any(table in call[0] for table in TOUCHED)]
    explain = "EXPLAIN " if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    plans: dict[str, str] = {}
    with engine.connect() as conn:
        for statement, parameters in calls:
            rows: list[Any] = list(conn.exec_driver_sql(explain + statement, parameters))
            plans[statement] = "\n".join(str(row[-1]) for row in rows)
    return plans


async def all_calls(store: SqlStore, keys: int) -> None:
    digests = [b"%032d" % i for i in range(1, ROWS, ROWS // keys)][:keys]
    entry = Entry(digests[0], b"%016d" % 1, b"envelope")
    await store.read(digests, [b"", *(b"%016d" % i for i in range(3))])
    await store.names(b"%016d" % 7, b"s", digests[0], 100)
    await store.write([entry._replace(digest=digest) for digest in digests])
    await store.clear(b"%016d" % 7)
    await store.reclaim(20, Emptied())
    await store.reclaim(20, Emptied())
    await store.erase(b"%016d" % 7, 20, Emptied())
    await store.delete(digests)


@pytest.mark.parametrize("analysed", [False, True], ids=["no statistics", "analysed"])
@pytest.mark.parametrize("keys", [1, 64])
@pytest.mark.parametrize("place", FILL, indirect=True)
async def test_every_statement_goes_by_an_index(place: Place, keys: int, seen: Seen, analysed: bool) -> None:
    store = await place.ready()
    engine = place.admin()
    with engine.begin() as conn:
        for statement in FILL[place.kind]:
            conn.execute(text(statement), {"n": ROWS})
    if analysed:
        with engine.begin() as conn:
            conn.execute(text("ANALYZE"))
    seen.calls.clear()
    await all_calls(store, keys)
    event.remove(Engine, "before_cursor_execute", seen)
    plans = explained(engine, seen)
    event.listen(Engine, "before_cursor_execute", seen)
    assert len(plans) >= 9
    for statement, plan in plans.items():
        scans = [line for line in plan.splitlines() if "Seq Scan" in line or "SCAN tiered" in line]
        assert not [scan for scan in scans if "INDEX" not in scan], f"{statement}\n{plan}"
    (read,) = [plan for statement, plan in plans.items() if "UNION ALL" in statement]
    for table in TOUCHED:
        assert f"{table}_pkey" in read or f"SEARCH {table} USING" in read, read


@pytest.mark.parametrize("place", ["psycopg"], indirect=True)
async def test_a_version_is_drawn_after_sorting_and_not_before(place: Place, seen: Seen) -> None:
    """Drawn for one row after another, each just before that row is put: not for a whole batch ahead of its locks."""
    store = await place.ready()
    seen.calls.clear()
    await store.write([Entry(b"%032d" % i, b"", b"") for i in range(10)])
    with place.admin().connect() as conn:
        (statement, parameters), *_ = seen.calls
        rows: list[Any] = list(conn.exec_driver_sql("EXPLAIN (VERBOSE, COSTS OFF) " + statement, parameters))
    lines = [str(row[0]) for row in rows]
    drawn = next(i for i, line in enumerate(lines) if "nextval" in line)
    assert drawn < next(i for i, line in enumerate(lines) if "Sort" in line), "\n".join(lines)
    assert "nextval" not in "\n".join(lines[drawn + 1 :])


ONE_STATEMENT_ON_POSTGRES = {"read": 1, "write": 1, "delete": 1, "clear": 1, "names": 1}


@pytest.mark.parametrize("place", ["asyncpg", "psycopg", "async-engine"], indirect=True)
@pytest.mark.parametrize("call", ONE_STATEMENT_ON_POSTGRES)
async def test_on_postgresql_a_call_is_one_statement_however_many_keys(place: Place, seen: Seen, call: str) -> None:
    store = await place.ready()
    digests = [b"%032d" % i for i in range(1500)]
    entries = [Entry(digest, b"", b"") for digest in digests]
    calls = {
        "read": lambda: store.read(digests, [b""]),
        "write": lambda: store.write(entries),
        "delete": lambda: store.delete(digests),
        "clear": lambda: store.clear(b""),
        "names": lambda: store.names(b"", b"", b"", 10),
    }
    seen.calls.clear()
    await calls[call]()
    assert len(seen.calls) == ONE_STATEMENT_ON_POSTGRES[call]
