"""Rows of a SQLite file whose columns are of other types, as one flipped bit makes of them.

SQLite keeps the type of each value beside it, whatever the column was declared as. The lowest bit of that number tells
bytes from a text.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tiered_cache import MISSING, MemoryFront, TieredCache

TEXTS = {"a text": "'text'", "a long text": "CAST(envelope AS text)", "no UTF-8": "CAST(x'ff01fffe' AS text)"}
NUMBERS = {"a number": "5", "a great number": "1 << 60", "a fraction": "1.5"}

ODD = [
    *(pytest.param("entry", "envelope", value, id=f"envelope-{what}") for what, value in {**TEXTS, **NUMBERS}.items()),
    *(
        pytest.param("entry", "version", value, id=f"version-{what}")
        for what, value in {
            "a text": "'text'",
            "no UTF-8": "CAST(x'ff01fffe' AS text)",
            "bytes": "x'0102'",
            "a fraction": "1.5",
        }.items()
    ),
    pytest.param("entry", "expires", f"{time.time_ns() // 1_000_000 + 3_600_000}.5", id="expires-a fraction"),
    pytest.param("entry", "expires", "'text'", id="expires-a text"),
    pytest.param("entry", "expires", "x'0102'", id="expires-bytes"),
]


def damage(file: Path, table: str, column: str, value: str, where: bytes) -> None:
    key = "digest" if table == "entry" else "address"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"UPDATE tiered_cache_{table} SET {column} = {value} WHERE {key} = ?", [where])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def found(cache: TieredCache) -> dict[str, Any]:
    return dict(await cache.namespace("n").get_many(["damaged", "beside it"]))


@pytest.mark.parametrize(("table", "column", "value"), ODD)
async def test_a_row_of_another_type_concerns_nobody_who_reads_beside_it(
    file: Path, table: str, column: str, value: str
) -> None:
    front = MemoryFront()
    async with TieredCache(front, f"sqlite:///{file}", front_ttl=60.0) as cache:
        space = cache.namespace("n")
        await space.set_many({"damaged": 1, "beside it": 2})
        damage(file, table, column, value, space.view.scope.key("damaged").digest)
        for _ in range(2):
            front.forget()
            answers = await found(cache)
            assert answers["beside it"] == 2
            # When it ends, and which version it is, is anybody's guess; what it says is not.
            assert answers.get("damaged", MISSING) in (1, MISSING)
            if column == "envelope" and "damaged" not in answers:
                assert cache.stats().corrupt
        await space.set("damaged", 3)
        front.forget()
        assert await found(cache) == {"damaged": 3, "beside it": 2}


@pytest.mark.parametrize("value", ["'text'", "x'0102'", "1.5", "CAST(x'ff01fffe' AS text)"])
async def test_a_watermark_of_another_type_raises_nothing_and_can_be_cleared_anew(file: Path, value: str) -> None:
    """What it was is lost, so it may cover everything or nothing."""
    front = MemoryFront()
    async with TieredCache(front, f"sqlite:///{file}", front_ttl=60.0) as cache:
        space = cache.namespace("n")
        await space.set_many({"damaged": 1, "beside it": 2})
        await space.clear()
        await space.set("beside it", 3)
        damage(file, "watermark", "version", value, space.view.scope.address)
        front.forget()
        assert (await found(cache)).get("beside it", 3) == 3
        await space.clear()
        await space.set("beside it", 4)
        front.forget()
        assert (await found(cache))["beside it"] == 4
