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
    any_,
    bindparam,
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

from tiered_cache._tiers import Entry

from ._schema import COUNTER, Tables, statements

Clock = Callable[[], float]
Condition = ColumnElement[bool]
#: Removes those of some rows to which a condition with some values applies; returns their digests.
Removal = Callable[[Connection, Sequence[bytes], Mapping[str, object]], list[bytes]]

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

    @abstractmethod
    def among(self, of: Column[bytes], name: str) -> Condition:
        """Whether a column is one of the values bound to `name`."""

    @abstractmethod
    def columns(self, conn: Connection) -> dict[str, set[str]]:
        """The columns of those of the tables that are there, by name, seen at one moment."""

    @abstractmethod
    def create(self, conn: Connection) -> None:
        """Makes what is missing, one process at a time, all or nothing. A change."""

    @abstractmethod
    def write(self, conn: Connection, entries: Sequence[Entry]) -> dict[bytes, int]:
        """Puts entries that are in the order of their digests; returns versions by digest. A change."""

    @abstractmethod
    def clear(self, conn: Connection, address: bytes) -> int:
        """Puts a new watermark and returns it. A change."""

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
        self._write = self._writing()
        self._clear = self._clearing()

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

    def create(self, conn: Connection) -> None:
        lock = crc32(f"{self._tables.schema}.{self._tables.prefix}".encode())
        with conn.execution_options(isolation_level="READ COMMITTED").begin():
            conn.execute(text("SELECT pg_advisory_xact_lock(CAST(:lock AS bigint))"), {"lock": lock})
            for statement in statements(self._tables, conn.dialect):
                conn.exec_driver_sql(statement)

    def write(self, conn: Connection, entries: Sequence[Entry]) -> dict[bytes, int]:
        arrays = {f"{name}s": [getattr(entry, name) for entry in entries] for name in Entry._fields}
        return {row.digest: row.version for row in conn.execute(self._write, arrays)}

    def clear(self, conn: Connection, address: bytes) -> int:
        return conn.execute(self._clear, {"address": address}).scalar_one()

    def removal(self, also: Condition | None = None, *, wait: bool) -> Removal:
        entry = self._tables.entry
        locked = select(entry.c.digest).where(self.among(entry.c.digest, "digests"))
        if also is not None:
            locked = locked.where(also)
        # Once a row is locked the condition is looked at again, so one rewritten meanwhile is judged as it is now.
        doomed = locked.order_by(entry.c.digest).with_for_update(skip_locked=not wait).cte("doomed")
        statement = delete(entry).where(entry.c.digest == doomed.c.digest).returning(entry.c.digest)

        def remove(conn: Connection, digests: Sequence[bytes], values: Mapping[str, object]) -> list[bytes]:
            return list(conn.execute(statement, {"digests": list(digests), **values}).scalars())

        return remove

    def _writing(self) -> Any:
        entry = self._tables.entry
        kinds = {
            "digest": LargeBinary,
            "address": LargeBinary,
            "envelope": LargeBinary,
            "ttl": BigInteger,
            "name": LargeBinary,
        }
        new = (
            func.unnest(*(bindparam(f"{name}s", type_=ARRAY(kind)) for name, kind in kinds.items()))
            .table_valued(*(column(name, kind) for name, kind in kinds.items()))
            .render_derived(name="new")
        ).c
        version = self._tables.versions.next_value()
        rows = select(new.digest, new.address, version, self.now + new.ttl, new.name, new.envelope)
        adding = postgresql.insert(entry).from_select(
            ["digest", "address", "version", "expires", "name", "envelope"],
            rows.order_by(new.digest),  # the order in which rows get locked, so no two batches deadlock
            include_defaults=False,
        )
        changed = {name: adding.excluded[name] for name in ("address", "expires", "name", "envelope")}
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
        given = {c.name: bindparam(c.name, type_=c.type) for c in entry.c if c.name != "expires"}
        adding = sqlite.insert(entry).values(**given, expires=self.now + bindparam("ttl", type_=BigInteger))
        self._write = adding.on_conflict_do_update(
            index_elements=[entry.c.digest],
            set_={c.name: adding.excluded[c.name] for c in entry.c if not c.primary_key},
        )
        adding = sqlite.insert(watermark).values({name: bindparam(name) for name in ("address", "version")})
        self._clear = adding.on_conflict_do_update(
            index_elements=[watermark.c.address], set_={"version": adding.excluded.version}
        )

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

    def columns(self, conn: Connection) -> dict[str, set[str]]:
        there = text(
            "SELECT lower(t.name), c.name FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c "
            "WHERE lower(t.name) IN :tables"
        ).bindparams(bindparam("tables", expanding=True))
        names = {table.name.lower(): table.name for table in self._tables.all}  # SQLite knows no case in names
        found = _grouped(conn.execute(there, {"tables": list(names)}))
        return {names[name]: columns for name, columns in found.items()}

    def create(self, conn: Connection) -> None:
        for statement in statements(self._tables, conn.dialect):
            conn.exec_driver_sql(statement)

    def write(self, conn: Connection, entries: Sequence[Entry]) -> dict[bytes, int]:
        first = self._draw(conn, len(entries))
        rows = [{**entry._asdict(), "version": version} for version, entry in enumerate(entries, first)]
        conn.execute(self._write, rows)
        return {entry.digest: version for version, entry in enumerate(entries, first)}

    def clear(self, conn: Connection, address: bytes) -> int:
        version = self._draw(conn, 1)
        conn.execute(self._clear, {"address": address, "version": version})
        return version

    def removal(self, also: Condition | None = None, *, wait: bool) -> Removal:
        entry = self._tables.entry
        doomed = self.among(entry.c.digest, "digests")
        if also is not None:
            doomed &= also
        finding, removing = select(entry.c.digest).where(doomed), delete(entry).where(doomed)

        def remove(conn: Connection, digests: Sequence[bytes], values: Mapping[str, object]) -> list[bytes]:
            removed: list[bytes] = []
            for i in range(0, len(digests), self.list_size):
                part = {"digests": digests[i : i + self.list_size], **values}
                removed += conn.execute(finding, part).scalars()
                conn.execute(removing, part)
            return removed

        return remove

    def _draw(self, conn: Connection, n: int) -> int:
        """Takes `n` versions in a row and returns the first. The file is locked: they are in the order of commits."""
        last = conn.execute(self._counter).scalar_one()
        conn.execute(self._counted, {"top": str(last + n)})
        return last + 1


def _grouped(pairs: Iterable[Any]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for name, column_name in pairs:
        groups.setdefault(name, set()).add(column_name)
    return groups


def _driver(conn: Connection) -> Any:
    """The connection of the driver itself: a `sqlite3.Connection`, or something very much like one."""
    return conn.connection.driver_connection
