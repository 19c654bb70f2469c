"""The tables: what they are called, what is in them, and the DDL that makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Sequence, String, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect as SqlaDialect
from sqlalchemy.schema import CreateIndex, CreateSequence, CreateTable

from tiered_cache._errors import ConfigurationError

#: Recorded in the tables. A release refuses tables of a higher number than its own, and upgrades those of a lower one.
#: 2 added `entry.stale` and the journal.
SCHEMA_VERSION: Final = 2

#: Names in `meta`.
SCHEMA: Final = "schema"
IDENTITY: Final = "identity"
COUNTER: Final = "version"

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PREFIX_CHARACTERS = 32  # PostgreSQL cuts names after 63, and the longest suffix below has 19
_SCHEMA_CHARACTERS = 63


class Tables:
    """The tables under one prefix and in one schema.

    An entry is one row, whatever its value: its key is the digest, so a long prompt is no long index row. Watermarks
    are never removed, since a missing one says "never cleared".
    """

    def __init__(self, prefix: str, schema: str | None) -> None:
        """Raises ConfigurationError for names that a database could not take as they are."""
        _check_identifier("table_prefix", prefix, _PREFIX_CHARACTERS)
        if schema is not None:
            _check_identifier("schema", schema, _SCHEMA_CHARACTERS)
        self.prefix = prefix
        self.schema = schema
        metadata = MetaData(schema=schema)
        self.entry = Table(
            f"{prefix}entry",
            metadata,
            Column("digest", LargeBinary(32), primary_key=True),
            Column("address", LargeBinary, nullable=False),
            Column("version", BigInteger, nullable=False),
            Column("expires", BigInteger),  # milliseconds since 1970; null: never
            # From then on it is only for those who take expired values; null: they get none either.
            Column("stale", BigInteger),
            Column("name", LargeBinary),  # null unless keys are to be listed
            # Last: SQLite reads a row from its beginning and follows a long one page by page.
            Column("envelope", LargeBinary, nullable=False),
        )
        entry = self.entry.c
        live = entry.expires.is_not(None)
        Index(f"{prefix}entry_by_address", entry.address, entry.digest)
        Index(f"{prefix}entry_by_expires", entry.expires, postgresql_where=live, sqlite_where=live)
        self.watermark = Table(
            f"{prefix}watermark",
            metadata,
            Column("address", LargeBinary, primary_key=True),
            Column("version", BigInteger, nullable=False),
            Column("reclaimed", BigInteger, nullable=False, server_default="0"),
            sqlite_with_rowid=False,
        )
        mark = self.watermark.c
        pending = mark.reclaimed < mark.version
        Index(f"{prefix}watermark_pending", mark.address, postgresql_where=pending, sqlite_where=pending)
        self.meta = Table(
            f"{prefix}meta",
            metadata,
            Column("name", String(32), primary_key=True),
            Column("value", String(255), nullable=False),
        )
        # Cells of the front that could not be told of a change: the front's whole key.
        self.journal = Table(
            f"{prefix}journal",
            metadata,
            Column("cell", LargeBinary, primary_key=True),
            Column("version", BigInteger, nullable=False),
            sqlite_with_rowid=False,
        )
        self.versions = Sequence(f"{prefix}version", metadata=metadata, data_type=BigInteger, cache=1)

    @property
    def all(self) -> tuple[Table, ...]:
        return (self.entry, self.watermark, self.meta, self.journal)


def upgrade(tables: Tables, dialect: SqlaDialect) -> str:
    """What tables of schema 1 lack beside what `statements` adds."""
    return f"ALTER TABLE {dialect.identifier_preparer.format_table(tables.entry)} ADD COLUMN stale BIGINT"


def statements(tables: Tables, dialect: SqlaDialect) -> Iterator[str]:
    """The DDL, one statement at a time. Applying it twice changes nothing."""
    preparer = dialect.identifier_preparer
    postgres = dialect.name == "postgresql"
    if postgres and tables.schema is not None:
        yield f"CREATE SCHEMA IF NOT EXISTS {preparer.quote(tables.schema)}"
    for table in tables.all:
        yield _compiled(CreateTable(table, if_not_exists=True), dialect)
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield _compiled(CreateIndex(index, if_not_exists=True), dialect)
    if postgres:
        # Envelopes as they are: compressing them on the server made writing 64 rows of 8 kB three times slower and
        # reading them half as fast again. They are bytes that a codec above may have compressed already.
        yield f"ALTER TABLE {preparer.format_table(tables.entry)} ALTER COLUMN envelope SET STORAGE EXTERNAL"
        yield _compiled(CreateSequence(tables.versions, if_not_exists=True), dialect)
    # The database makes the identity up, so that one script applied to two databases gives two identities.
    identity = "substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)" if postgres else "lower(hex(randomblob(6)))"
    rows = [(IDENTITY, identity), (SCHEMA, f"'{SCHEMA_VERSION}'")]
    if not postgres:
        rows.append((COUNTER, "'0'"))
    values = ", ".join(f"('{name}', {value})" for name, value in rows)
    meta = preparer.format_table(tables.meta)
    yield f"INSERT INTO {meta} (name, value) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608 (all of it is ours)
    yield (
        f"UPDATE {meta} SET value = '{SCHEMA_VERSION}' "  # noqa: S608
        f"WHERE name = '{SCHEMA}' AND CAST(value AS integer) < {SCHEMA_VERSION}"
    )


def ddl(dialect: str, *, table_prefix: str = "tiered_cache_", schema: str | None = None) -> str:
    """A script that makes all tables, for "postgresql" or "sqlite". Raises ConfigurationError for any other name."""
    known: dict[str, SqlaDialect] = {"postgresql": postgresql.dialect(), "sqlite": sqlite.dialect()}
    if dialect not in known:
        raise ConfigurationError(f'there is DDL for "postgresql" and "sqlite", not for {dialect!r}')
    return "".join(f"{statement};\n" for statement in statements(Tables(table_prefix, schema), known[dialect]))


def _compiled(element: CreateTable | CreateIndex | CreateSequence, dialect: SqlaDialect) -> str:
    lines = str(element.compile(dialect=dialect)).strip().splitlines()
    return "\n".join(line.rstrip().replace("\t", "    ") for line in lines)


def _check_identifier(what: str, text: object, most: int) -> None:
    if not isinstance(text, str) or not _IDENTIFIER.fullmatch(text) or len(text) > most:
        raise ConfigurationError(
            f"{what} is made of at most {most} ASCII letters, digits and _, and does not begin with a digit: "
            f"{text!r} is not"
        )
