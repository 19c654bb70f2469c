"""What each call of a store does on one connection: one body for synchronous and asynchronous engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Table,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from tiered_cache._errors import SchemaError
from tiered_cache._keys import LEVEL_BYTES, range_end
from tiered_cache._tiers import Entry, Found, Notice, Row

from ._dialect import Condition, Dialect
from ._schema import IDENTITY, SCHEMA, SCHEMA_VERSION, Tables, upgrade

#: Rows that one statement looks at where it goes through a range, whether or not they are what is looked for.
_PAGE_ROWS: Final = 1000


class Known(NamedTuple):
    """What tables say of themselves."""

    schema: int
    identity: str


class Pending(NamedTuple):
    """A cleared address whose space has not been reclaimed yet."""

    address: bytes
    version: int


class Place(NamedTuple):
    """A place in the index by address: everything up to it has been looked at."""

    address: bytes
    digest: bytes


class Page(NamedTuple):
    """What a look at one page of a cleared range found."""

    #: Digests of rows that were not above the watermark.
    dead: list[bytes]
    #: Where to go on; None at the end of the range.
    place: Place | None


class Names(NamedTuple):
    """What a look at one page of a namespace found."""

    names: list[tuple[bytes, bytes]]
    #: The digest after which to go on; None at the end of the namespace.
    after: bytes | None


class Statements:
    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._dialect = dialect
        self._read = {stale: self._reading(stale=stale) for stale in (False, True)}
        self._peek = self._peeking()
        self._now = select(dialect.now)
        self._journal = {ending: self._listing(ending) for ending in (False, True)}
        self._names = self._naming()
        self._expired = self._expiring()
        mark = tables.watermark.c
        self._watermark = select(mark.version).where(mark.address == _bytes("address"))
        pending = and_(mark.reclaimed < mark.version, mark.address > _bytes("after"))
        self._first_pending = select(mark.address, mark.version).where(mark.reclaimed < mark.version)
        self._first_pending = self._first_pending.order_by(mark.address).limit(1)
        self._next_pending = select(mark.address, mark.version).where(pending).order_by(mark.address).limit(1)
        done = update(tables.watermark).values(reclaimed=bindparam("done", type_=BigInteger))
        self._done = done.where(mark.address == _bytes("at"), mark.reclaimed < bindparam("done", type_=BigInteger))
        self._pages = {ending: self._paging(ending) for ending in (False, True)}
        is_cleared = tables.entry.c.version <= bindparam("cleared", type_=BigInteger)
        self._delete = dialect.removal(wait=True)
        self._remove_expired = dialect.removal(self._is_expired, wait=False)
        self._remove_cleared = {wait: dialect.removal(is_cleared, wait=wait) for wait in (False, True)}

    # -- setup

    def known(self, conn: Connection) -> Known | None:
        """What the tables say of themselves; None where there are none. Raises SchemaError for those of others."""
        meta, prefix = self._tables.meta, self._tables.prefix
        there = self._dialect.columns(conn)
        if not there:
            return None
        self._check(meta, there)
        known: dict[str, str] = {row.name: row.value for row in _rows(conn, select(meta.c.name, meta.c.value))}
        schema = known.get(SCHEMA, "")
        if IDENTITY not in known or not schema.isdecimal():
            raise SchemaError(
                f"{meta.name} does not say which release made these tables: apply the complete output of ddl(), "
                "or choose another table_prefix (or schema)"
            )
        if int(schema) > SCHEMA_VERSION:
            raise SchemaError(
                f"the tables named {prefix}* were made by a newer release (schema {schema}, this one knows "
                f"{SCHEMA_VERSION}): upgrade tiered-cache here, or choose another table_prefix (or schema)"
            )
        if int(schema) == SCHEMA_VERSION:
            there = self._dialect.columns(conn)  # anew: somebody may have been bringing them up to date
            for table in self._tables.all:
                self._check(table, there)
        return Known(int(schema), known[IDENTITY])

    def _check(self, table: Table, there: Mapping[str, set[str]]) -> None:
        missing = {column.name for column in table.c} - there.get(table.name, set())
        if missing:
            what = f"lacks the columns {', '.join(sorted(missing))}" if table.name in there else "is missing"
            raise SchemaError(
                f"{table.name} {what}, so the tables named {self._tables.prefix}* are not, or not all, those of this "
                "package: choose another table_prefix (or schema), or drop them"
            )

    def upgrade(self, conn: Connection) -> str:
        return upgrade(self._tables, conn.dialect)

    def create(self, conn: Connection) -> None:
        def is_done() -> bool:
            known = self.known(conn)
            return known is not None and known.schema == SCHEMA_VERSION

        self._dialect.create(conn, is_done)

    # -- entries

    def read(self, conn: Connection, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool) -> Found:
        rows: dict[bytes, Row] = {}
        watermarks: dict[bytes, int] = {}

        def look(some_digests: Sequence[bytes], some_addresses: Sequence[bytes]) -> None:
            values = {"digests": list(some_digests), "addresses": list(some_addresses)}
            for is_row, key, version, left, envelope in _rows(conn, self._read[stale], values):
                if is_row:
                    rows[key] = Row(version, left, envelope)
                else:
                    watermarks[key] = version

        size = self._dialect.list_size
        if len(digests) + len(addresses) <= size:
            look(digests, addresses)
        else:
            with self._dialect.snapshot(conn):
                for part in _parts(digests, size):
                    look(part, ())
                for part in _parts(addresses, size):
                    look((), part)
        return Found(rows, watermarks)

    def peek(self, conn: Connection, digests: Sequence[bytes]) -> dict[bytes, Row]:
        rows: dict[bytes, Row] = {}
        for part in _parts(digests, self._dialect.list_size):
            for digest, *row in _rows(conn, self._peek, {"digests": list(part)}):
                rows[digest] = Row(*row)
        return rows

    def now(self, conn: Connection) -> int:
        return conn.execute(self._now).scalar_one()

    def write(self, conn: Connection, entries: Sequence[Entry], journal: Sequence[bytes]) -> list[int]:
        versions = self._dialect.write(conn, sorted(entries, key=lambda entry: entry.digest), journal)
        return [versions[entry.digest] for entry in entries]

    def delete(self, conn: Connection, digests: Sequence[bytes], journal: Sequence[bytes]) -> None:
        self._delete(conn, digests, {}, journal)

    def clear(self, conn: Connection, address: bytes, journal: Sequence[bytes]) -> int:
        return self._dialect.clear(conn, address, journal)

    def journal(self, conn: Connection, prefix: bytes, limit: int) -> list[Notice]:
        end = range_end(prefix)
        values: dict[str, object] = {"prefix": prefix, "most": limit}
        if end is not None:
            values["end"] = end
        return [Notice(row.cell, row.version) for row in _rows(conn, self._journal[end is not None], values)]

    def acknowledge(self, conn: Connection, notices: Sequence[Notice]) -> None:
        self._dialect.acknowledge(conn, notices)

    def names(self, conn: Connection, address: bytes, after: bytes) -> Names:
        above = [address[:end] for end in range(0, len(address) + 1, LEVEL_BYTES)]
        values = {"address": address, "above": above, "after": after, "most": _PAGE_ROWS}
        rows = list(_rows(conn, self._names, values))
        names = [(row.digest, row.name) for row in rows if row.name is not None]
        return Names(names, rows[-1].digest if len(rows) == _PAGE_ROWS else None)

    # -- space

    def expired(self, conn: Connection, limit: int) -> list[bytes]:
        return list(conn.execute(self._expired, {"most": limit}).scalars())

    def remove_expired(self, conn: Connection, digests: Sequence[bytes]) -> list[bytes]:
        """Removes those that are expired now, leaving what somebody has locked."""
        return self._remove_expired(conn, digests, {}, ())

    def pending(self, conn: Connection, after: bytes | None) -> Pending | None:
        """The next cleared address that is not reclaimed, after the address `after`."""
        rows = _rows(conn, self._first_pending if after is None else self._next_pending, {"after": after})
        return next((Pending(row.address, row.version) for row in rows), None)

    def watermark(self, conn: Connection, address: bytes) -> int | None:
        return conn.execute(self._watermark, {"address": address}).scalar_one_or_none()

    def page(self, conn: Connection, of: Pending, place: Place | None, limit: int) -> Page:
        """Looks at the next rows of a range for at most `limit` that are not above its watermark."""
        start, end = place or Place(of.address, b""), range_end(of.address)
        values: dict[str, object] = {"address": start.address, "digest": start.digest, "most": _PAGE_ROWS}
        if end is not None:
            values["end"] = end
        rows = list(_rows(conn, self._pages[end is not None], values))
        dead = [row for row in rows if row.version <= of.version]
        if len(dead) > limit:
            dead = dead[:limit]
            last = dead[-1]
        else:
            last = rows[-1] if len(rows) == _PAGE_ROWS else None
        return Page([row.digest for row in dead], None if last is None else Place(last.address, last.digest))

    def remove_cleared(self, conn: Connection, digests: Sequence[bytes], version: int, *, wait: bool) -> list[bytes]:
        """Removes those that are not above a watermark now. Without `wait`, leaves what somebody has locked."""
        return self._remove_cleared[wait](conn, digests, {"cleared": version}, ())

    def reclaimed(self, conn: Connection, what: Pending) -> None:
        conn.execute(self._done, {"at": what.address, "done": what.version})

    # -- how they read

    @property
    def _fresh_until(self) -> ColumnElement[int]:
        entry = self._tables.entry.c
        return func.coalesce(entry.stale, entry.expires)  # null: for ever

    @property
    def _is_valid(self) -> Condition:
        return or_(self._tables.entry.c.expires.is_(None), self._fresh_until > self._dialect.now)

    @property
    def _is_expired(self) -> Condition:
        return self._tables.entry.c.expires <= self._dialect.now

    def _reading(self, *, stale: bool) -> Any:
        entry, mark = self._tables.entry.c, self._tables.watermark.c
        among = self._dialect.among
        typed = self._dialect.typed
        left = self._fresh_until - self._dialect.now  # null stays null
        rows = select(
            literal_column("1", Integer), entry.digest, typed(entry.version), typed(left), typed(entry.envelope)
        )
        is_there = or_(entry.expires.is_(None), entry.expires > self._dialect.now) if stale else self._is_valid
        rows = rows.where(among(entry.digest, "digests"), is_there)
        marks = select(literal_column("0", Integer), mark.address, typed(mark.version), null(), null())
        return union_all(rows, marks.where(among(mark.address, "addresses")))

    def _peeking(self) -> Any:
        entry, typed = self._tables.entry.c, self._dialect.typed
        left = self._fresh_until - self._dialect.now
        rows = select(entry.digest, typed(entry.version), typed(left), typed(entry.envelope))
        return rows.where(self._dialect.among(entry.digest, "digests"))

    def _naming(self) -> Any:
        """Looks at a fixed number of rows: one that went on to the next match could have to look at all."""
        entry, mark = self._tables.entry.c, self._tables.watermark.c
        cleared = select(func.max(mark.version)).where(self._dialect.among(mark.address, "above")).scalar_subquery()
        is_there = and_(self._is_valid, entry.version > func.coalesce(cleared, literal_column("0", Integer)))
        return (
            select(entry.digest, case((is_there, entry.name)).label("name"))
            .where(entry.address == _bytes("address"), entry.digest > _bytes("after"))
            .order_by(entry.digest)
            .limit(bindparam("most", type_=BigInteger))
        )

    def _expiring(self) -> Any:
        entry = self._tables.entry.c
        most = bindparam("most", type_=BigInteger)
        return select(entry.digest).where(self._is_expired).order_by(entry.expires).limit(most)

    def _listing(self, ending: bool) -> Any:
        journal = self._tables.journal.c
        listing = select(journal.cell, journal.version).where(journal.cell >= _bytes("prefix"))
        if ending:
            listing = listing.where(journal.cell < _bytes("end"))
        return listing.order_by(journal.cell).limit(bindparam("most", type_=BigInteger))

    def _paging(self, ending: bool) -> Any:
        entry = self._tables.entry.c
        page = select(entry.address, entry.digest, entry.version)
        page = page.where(tuple_(entry.address, entry.digest) > tuple_(_bytes("address"), _bytes("digest")))
        if ending:
            page = page.where(entry.address < _bytes("end"))
        return page.order_by(entry.address, entry.digest).limit(bindparam("most", type_=BigInteger))


def _rows(conn: Connection, statement: Any, values: Mapping[str, object] | None = None) -> Iterable[Any]:
    return cast("Iterable[Any]", conn.execute(statement, values))


def _bytes(name: str) -> Any:
    return bindparam(name, type_=LargeBinary)


def _parts(values: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for i in range(0, len(values), size):
        yield values[i : i + size]
