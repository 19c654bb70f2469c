"""All that differs from database to database. A further one is a further class here, and its name in `_connect`."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Final
from zlib import crc32

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from tiered_cache._tiers import Entry, Notice

from ._schema import COUNTER, Tables, statements, upgrade

Clock = Callable[[], float]
Condition = ColumnElement[bool]
#: Removes those of some rows to which a condition with some values applies; returns their digests. Records what the
#: front could not be told of.
Removal = Callable[[Connection, Sequence[bytes], Mapping[str, object], Sequence[bytes]], list[bytes]]

#: Values in one IN list. Every SQLite ever shipped takes 999 variables in a statement.
_IN_LIST: Final = 900


class Dialect(ABC):
    """What every database wants in words of its own.

    Whoever calls what is "a change" calls `begin_change` before it, and `commit_change` or `abandon_change` after it.
    """

    #: How many values fit one list of `among`.
    list_size: int
    #: Whether writers wait for one another anyway, so that it is cheaper to let them queue on this side.
    one_writer: bool
    #: Milliseconds since 1970: the database's clock, unless a test injects its own.
    now: ColumnElement[int]

    def __init__(self, tables: Tables, now: str, clock: Clock | None) -> None:
        self._tables = tables
        if clock is None:
            self.now = literal_column(now, BigInteger)
        else:
            self.now = bindparam("now", callable_=lambda: int(clock() * 1000), type_=BigInteger)

    def begin_change(self, conn: Connection) -> None:  # noqa: B027 (nothing to do where a statement commits itself)
        """On a connection that has executed nothing."""

    def commit_change(self, conn: Connection) -> None:  # noqa: B027
        """Once all is done."""

    def abandon_change(self, conn: Connection) -> None:  # noqa: B027
        """Where something went wrong, the commit included."""

    def snapshot(self, conn: Connection) -> AbstractContextManager[None]:
        """Round several statements that are to see one moment, on a connection that has executed nothing."""
        return nullcontext()

    def _make(self, conn: Connection) -> None:
        there = self.columns(conn).get(self._tables.entry.name)
        if there and "stale" not in there:
            conn.exec_driver_sql(upgrade(self._tables, conn.dialect))
        for statement in statements(self._tables, conn.dialect):
            conn.exec_driver_sql(statement)

    @abstractmethod
    def among(self, of: Column[bytes], name: str) -> Condition:
        """Whether a column is one of the values bound to `name`."""

    def typed(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column of a row that may have been damaged, as the type that it was declared with."""
        return column

    @abstractmethod
    def columns(self, conn: Connection) -> dict[str, set[str]]:
        """The columns of those of the tables that are there, by name, seen at one moment."""

    @abstractmethod
    def create(self, conn: Connection, is_done: Callable[[], bool]) -> None:
        """Makes what is missing, older tables brought up to date, one process at a time, all or nothing. A change.

        Unless it `is_done` when its turn has come: who is late must not wait for those who use the tables already.
        """

    @abstractmethod
    def write(self, conn: Connection, entries: Sequence[Entry], journal: Sequence[bytes]) -> dict[bytes, int]:
        """Puts entries that are in the order of their digests; returns versions by digest. A change."""

    @abstractmethod
    def clear(self, conn: Connection, address: bytes, journal: Sequence[bytes]) -> int:
        """Puts a new watermark and returns it. A change."""

    @abstractmethod
    def acknowledge(self, conn: Connection, notices: Sequence[Notice]) -> None:
        """Removes them from the journal, leaving those that somebody has locked. A change."""

    @abstractmethod
    def removal(self, also: Condition | None = None, *, wait: bool) -> Removal:
        """A change that removes rows to which `also` applies when they are removed, whatever they were before.

        Rows are locked in the order of their digests. Without `wait`, those that somebody has locked are left alone.
        """


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
        return _grouped(conn.execute(there, names if schema is None else {**names, "schema": schema}))

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
        found = _grouped(conn.execute(there, {"tables": list(names)}))
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


def _cells(journal: Sequence[bytes]) -> dict[str, object]:
    return {"cells": list(journal)} if journal else {}


def _grouped(pairs: Iterable[Any]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for name, column_name in pairs:
        groups.setdefault(name, set()).add(column_name)
    return groups


def _driver(conn: Connection) -> Any:
    """The connection of the driver itself: a `sqlite3.Connection`, or something very much like one."""
    return conn.connection.driver_connection
