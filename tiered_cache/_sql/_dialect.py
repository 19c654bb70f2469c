"""What differs from database to database. A further one is a further module, and its name in `_connect`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    bindparam,
    literal_column,
)

from tiered_cache._tiers import Entry, Notice

from ._schema import Tables, statements, upgrade

Clock = Callable[[], float]
Condition = ColumnElement[bool]
#: Removes those of some rows to which a condition with some values applies; returns their digests. Records what the
#: front could not be told of.
Removal = Callable[[Connection, Sequence[bytes], Mapping[str, object], Sequence[bytes]], list[bytes]]


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


def grouped(pairs: Iterable[Any]) -> dict[str, set[str]]:
    """Column names by the name of their table."""
    groups: dict[str, set[str]] = {}
    for name, column_name in pairs:
        groups.setdefault(name, set()).add(column_name)
    return groups
