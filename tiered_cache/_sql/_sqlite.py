"""SQLite: the words of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    and_,
    bindparam,
    case,
    cast,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from tiered_cache._tiers import Entry, Notice

from ._dialect import Clock, Condition, Dialect, Removal, grouped
from ._schema import COUNTER, Tables

#: Values in one IN list. Every SQLite ever shipped takes 999 variables in a statement.
_IN_LIST: Final = 900


class Sqlite(Dialect):
    """A change holds the one lock of the file from its beginning to its end."""

    list_size = _IN_LIST
    one_writer = True

    def __init__(self, tables: Tables, clock: Clock | None) -> None:
        super().__init__(tables, "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)", clock)
        entry, watermark, meta = tables.entry, tables.watermark, tables.meta
        counter = meta.c.name == COUNTER
        self._counter = select(cast(meta.c.value, BigInteger)).where(counter)
        self._counted = update(meta).where(counter).values(value=bindparam("top"))
        given = {c.name: bindparam(c.name, type_=c.type) for c in entry.c if c.name not in ("expires", "stale")}
        ttl, grace = (bindparam(name, type_=BigInteger) for name in ("ttl", "grace"))
        stale = case((grace > 0, self.now + ttl))
        adding = sqlite.insert(entry).values(**given, expires=self.now + ttl + grace, stale=stale)
        self._write = adding.on_conflict_do_update(
            index_elements=[entry.c.digest],
            set_={c.name: adding.excluded[c.name] for c in entry.c if not c.primary_key},
        )
        adding = sqlite.insert(watermark).values({name: bindparam(name) for name in ("address", "version")})
        self._clear = adding.on_conflict_do_update(
            index_elements=[watermark.c.address], set_={"version": adding.excluded.version}
        )
        journal = tables.journal
        adding = sqlite.insert(journal).values({name: bindparam(name) for name in Notice._fields})
        self._record = adding.on_conflict_do_update(
            index_elements=[journal.c.cell], set_={"version": adding.excluded.version}
        )
        seen = and_(journal.c.cell == bindparam("of_cell"), journal.c.version == bindparam("seen"))
        self._acknowledge = delete(journal).where(seen)

    def begin_change(self, conn: Connection) -> None:
        # Not deferred: a transaction that reads first may be refused the lock for good when it comes to write.
        self._begin(conn, "BEGIN IMMEDIATE")

    def commit_change(self, conn: Connection) -> None:
        conn.exec_driver_sql("COMMIT")
        self._restore(conn)

    def abandon_change(self, conn: Connection) -> None:
        with suppress(DBAPIError):  # of a connection that is good for nothing any more
            if _driver(conn).in_transaction:  # what went wrong may have ended it
                conn.exec_driver_sql("ROLLBACK")
            self._restore(conn)

    @contextmanager
    def snapshot(self, conn: Connection) -> Generator[None]:
        self._begin(conn, "BEGIN")
        try:
            yield
        finally:
            self.abandon_change(conn)

    def _begin(self, conn: Connection, how: str) -> None:
        conn.begin()
        if _driver(conn).in_transaction:  # an engine may be set up to begin transactions by itself, of another kind
            conn.exec_driver_sql("ROLLBACK")
        conn.exec_driver_sql(how)

    def _restore(self, conn: Connection) -> None:
        if getattr(_driver(conn), "autocommit", None) is False:  # such a one counts on always being in a transaction
            conn.exec_driver_sql("BEGIN")

    def among(self, of: Column[bytes], name: str) -> Condition:
        return of.in_(bindparam(name, type_=LargeBinary, expanding=True))

    def typed(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        # Here each value has a type of its own, of which one flipped bit makes another, whatever the column's is.
        return cast(column, column.type)

    def columns(self, conn: Connection) -> dict[str, set[str]]:
        there = text(
            "SELECT lower(t.name), c.name FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c "
            "WHERE lower(t.name) IN :tables"
        ).bindparams(bindparam("tables", expanding=True))
        names = {table.name.lower(): table.name for table in self._tables.all}  # SQLite knows no case in names
        found = grouped(conn.execute(there, {"tables": list(names)}))
        return {names[name]: columns for name, columns in found.items()}

    def create(self, conn: Connection, is_done: Callable[[], bool]) -> None:
        if not is_done():
            self._make(conn)

    def write(self, conn: Connection, entries: Sequence[Entry], journal: Sequence[bytes]) -> dict[bytes, int]:
        self._note(conn, journal)
        first = self._draw(conn, len(entries))
        rows = [{**entry._asdict(), "version": version} for version, entry in enumerate(entries, first)]
        conn.execute(self._write, rows)
        return {entry.digest: version for version, entry in enumerate(entries, first)}

    def clear(self, conn: Connection, address: bytes, journal: Sequence[bytes]) -> int:
        self._note(conn, journal)
        version = self._draw(conn, 1)
        conn.execute(self._clear, {"address": address, "version": version})
        return version

    def acknowledge(self, conn: Connection, notices: Sequence[Notice]) -> None:
        conn.execute(self._acknowledge, [{"of_cell": cell, "seen": version} for cell, version in notices])

    def removal(self, also: Condition | None = None, *, wait: bool) -> Removal:
        entry = self._tables.entry
        doomed = self.among(entry.c.digest, "digests")
        if also is not None:
            doomed &= also
        finding, removing = select(entry.c.digest).where(doomed), delete(entry).where(doomed)

        def remove(
            conn: Connection, digests: Sequence[bytes], values: Mapping[str, object], journal: Sequence[bytes] = ()
        ) -> list[bytes]:
            self._note(conn, journal)
            removed: list[bytes] = []
            for i in range(0, len(digests), self.list_size):
                part = {"digests": digests[i : i + self.list_size], **values}
                removed += conn.execute(finding, part).scalars()
                conn.execute(removing, part)
            return removed

        return remove

    def _note(self, conn: Connection, journal: Sequence[bytes]) -> None:
        if journal:
            first = self._draw(conn, len(journal))
            conn.execute(self._record, [Notice(cell, n)._asdict() for n, cell in enumerate(journal, first)])

    def _draw(self, conn: Connection, n: int) -> int:
        """Takes `n` versions in a row and returns the first. The file is locked: they are in the order of commits."""
        last = conn.execute(self._counter).scalar_one()
        conn.execute(self._counted, {"top": str(last + n)})
        return last + 1


def _driver(conn: Connection) -> Any:
    """The connection of the driver itself: a `sqlite3.Connection`, or something very much like one."""
    return conn.connection.driver_connection
