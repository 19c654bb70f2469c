"""PostgreSQL: the words of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    any_,
    bindparam,
    case,
    column,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql

from tiered_cache._tiers import Entry, Notice

from ._dialect import Clock, Condition, Dialect, Removal, grouped
from ._schema import Tables


class Postgres(Dialect):
    """One statement a call, outside any transaction: no round trip is spent on one, and no lock outlives the call."""

    list_size = sys.maxsize
    one_writer = False

    def __init__(self, tables: Tables, clock: Clock | None) -> None:
        super().__init__(tables, "CAST(floor(extract(epoch FROM statement_timestamp()) * 1000) AS bigint)", clock)
        # In the same statement: with a transaction of several, a database that has to stand in for the front as well
        # would have three round trips more to serve for each change.
        self._journaling = self._recording().cte("journaling")
        self._write = self._with_journal(self._writing())
        self._clear = self._with_journal(self._clearing())
        self._acknowledge = self._acknowledging()

    def among(self, of: Column[bytes], name: str) -> Condition:
        # An array is one parameter: one text and one plan, whatever the size of a batch.
        return of == any_(bindparam(name, type_=ARRAY(LargeBinary)))

    def columns(self, conn: Connection) -> dict[str, set[str]]:
        schema = self._tables.schema
        where = "pg_table_is_visible(c.oid)" if schema is None else "n.nspname = :schema"
        there = text(  # `where` is one of two texts
            "SELECT CAST(c.relname AS text), CAST(a.attname AS text) FROM pg_catalog.pg_class AS c "  # noqa: S608
            "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
            "JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            f"WHERE {where} AND c.relname IN :tables"
        ).bindparams(bindparam("tables", expanding=True))
        names = {"tables": [table.name for table in self._tables.all]}
        return grouped(conn.execute(there, names if schema is None else {**names, "schema": schema}))

    def create(self, conn: Connection, is_done: Callable[[], bool]) -> None:
        lock = crc32(f"{self._tables.schema}.{self._tables.prefix}".encode())
        with conn.execution_options(isolation_level="READ COMMITTED").begin():
            conn.execute(text("SELECT pg_advisory_xact_lock(CAST(:lock AS bigint))"), {"lock": lock})
            if not is_done():
                self._make(conn)

    def write(self, conn: Connection, entries: Sequence[Entry], journal: Sequence[bytes]) -> dict[bytes, int]:
        arrays = {f"{name}s": [getattr(entry, name) for entry in entries] for name in Entry._fields}
        rows = conn.execute(self._write[bool(journal)], {**arrays, **_cells(journal)})
        return {row.digest: row.version for row in rows}

    def clear(self, conn: Connection, address: bytes, journal: Sequence[bytes]) -> int:
        return conn.execute(self._clear[bool(journal)], {"address": address, **_cells(journal)}).scalar_one()

    def acknowledge(self, conn: Connection, notices: Sequence[Notice]) -> None:
        values = {"cells": [notice.cell for notice in notices], "seen": [notice.version for notice in notices]}
        conn.execute(self._acknowledge, values)

    def removal(self, also: Condition | None = None, *, wait: bool) -> Removal:
        entry = self._tables.entry
        locked = select(entry.c.digest).where(self.among(entry.c.digest, "digests"))
        if also is not None:
            locked = locked.where(also)
        # Once a row is locked the condition is looked at again, so one rewritten meanwhile is judged as it is now.
        doomed = locked.order_by(entry.c.digest).with_for_update(skip_locked=not wait).cte("doomed")
        removing = delete(entry).where(entry.c.digest == doomed.c.digest).returning(entry.c.digest)
        statements = self._with_journal(removing)

        def remove(
            conn: Connection, digests: Sequence[bytes], values: Mapping[str, object], journal: Sequence[bytes] = ()
        ) -> list[bytes]:
            given = {"digests": list(digests), **values, **_cells(journal)}
            return list(conn.execute(statements[bool(journal)], given).scalars())

        return remove

    def _writing(self) -> Any:
        entry = self._tables.entry
        kinds = {
            "digest": LargeBinary,
            "address": LargeBinary,
            "envelope": LargeBinary,
            "ttl": BigInteger,
            "name": LargeBinary,
            "grace": BigInteger,
        }
        new = (
            func.unnest(*(bindparam(f"{name}s", type_=ARRAY(kind)) for name, kind in kinds.items()))
            .table_valued(*(column(name, kind) for name, kind in kinds.items()))
            .render_derived(name="new")
        ).c
        version = self._tables.versions.next_value()
        stale = case((new.grace > 0, self.now + new.ttl))
        expires = self.now + new.ttl + new.grace
        rows = select(new.digest, new.address, version, expires, stale, new.name, new.envelope)
        adding = postgresql.insert(entry).from_select(
            ["digest", "address", "version", "expires", "stale", "name", "envelope"],
            rows.order_by(new.digest),  # the order in which rows get locked, so no two batches deadlock
            include_defaults=False,
        )
        changed = {name: adding.excluded[name] for name in ("address", "expires", "stale", "name", "envelope")}
        # Not excluded.version: that was drawn before this row was locked, perhaps before what another has committed.
        return adding.on_conflict_do_update(
            index_elements=[entry.c.digest], set_={**changed, "version": version}
        ).returning(entry.c.digest, entry.c.version)

    def _clearing(self) -> Any:
        watermark = self._tables.watermark
        version = self._tables.versions.next_value()
        adding = postgresql.insert(watermark).values(address=bindparam("address", type_=LargeBinary), version=version)
        return adding.on_conflict_do_update(index_elements=[watermark.c.address], set_={"version": version}).returning(
            watermark.c.version
        )

    def _recording(self) -> Any:
        journal = self._tables.journal
        version = self._tables.versions.next_value()
        new = (
            func.unnest(bindparam("cells", type_=ARRAY(LargeBinary)))
            .table_valued(column("cell", LargeBinary))
            .render_derived(name="recorded")
        ).c
        rows = select(new.cell, version).order_by(new.cell)
        adding = postgresql.insert(journal).from_select(["cell", "version"], rows, include_defaults=False)
        return adding.on_conflict_do_update(index_elements=[journal.c.cell], set_={"version": version})

    def _with_journal(self, changing: Any) -> dict[bool, Any]:
        """A change, and the same with a journal."""
        return {False: changing, True: changing.add_cte(self._journaling)}

    def _acknowledging(self) -> Any:
        journal = self._tables.journal
        given = (
            func.unnest(bindparam("cells", type_=ARRAY(LargeBinary)), bindparam("seen", type_=ARRAY(BigInteger)))
            .table_valued(column("cell", LargeBinary), column("version", BigInteger))
            .render_derived(name="given")
        ).c
        # What somebody has locked is being recorded again. Never waiting, this cannot take part in a deadlock.
        seen = select(journal.c.cell).where(journal.c.cell == given.cell, journal.c.version == given.version)
        seen = seen.with_for_update(of=journal, skip_locked=True).cte("seen")
        return delete(journal).where(journal.c.cell == seen.c.cell)


def _cells(journal: Sequence[bytes]) -> dict[str, object]:
    return {"cells": list(journal)} if journal else {}
