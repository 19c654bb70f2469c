"""The store itself: every call is one connection, one piece of work, one answer or StoreUnavailableError."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tiered_cache._errors import ConfigurationError, SchemaError
from tiered_cache._fork import forget_after_fork
from tiered_cache._tiers import Emptying, Entry, Found, Notice, Row

from ._connect import connect
from ._faults import is_fault, unavailable
from ._postgres import Postgres
from ._runners import Attempt
from ._schema import SCHEMA_VERSION, Tables, ddl
from ._sqlite import Sqlite
from ._statements import Pending, Place, Statements

T = TypeVar("T")


@dataclass
class _Round:
    """How far this process has come in removing what one clear left behind."""

    version: int
    place: Place | None = None
    left: int = 0


class SqlStore:
    """A `Store` in PostgreSQL or SQLite, for every event loop and every thread.

    `source` is a URL, a SQLAlchemy `Engine` (runs in worker threads, one hop a call, on trio too) or an `AsyncEngine`
    (asyncio alone). What a URL opens, this object closes, with the loop it was opened on or by `aclose`; an engine
    that is passed in is never disposed of. An AsyncEngine lends its settings only: each loop gets connections of its
    own. An in-memory SQLite (`sqlite://`) lives as long as this object.

    `timeout`, in seconds, bounds each call, waiting for a connection included. An engine that is passed in should
    bound its statements on the server as well (`statement_timeout`): what this side has given up must not be
    committed there later. `pool_size` is the number of connections for each loop, or of worker threads.
    `clock`, for tests, gives seconds since 1970 in place of the database's clock.

    A statement that has begun is not cut short when its caller is cancelled: it ends, within `timeout`, and then the
    caller is. So no connection is ever left in the middle of an answer.
    """

    def __init__(
        self,
        source: str | URL | Engine | AsyncEngine,
        *,
        table_prefix: str = "tiered_cache_",
        schema: str | None = None,
        pool_size: int = 8,
        timeout: float = 5.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Opens nothing. Raises ConfigurationError or MissingExtraError for arguments that cannot work."""
        self._timeout = timeout
        self._tables = Tables(table_prefix, schema)
        self._runner, self._database, self._shown = connect(source, pool_size=pool_size, timeout=timeout)
        if self._database == "sqlite":
            if schema is not None:
                raise ConfigurationError("SQLite has no schemas: choose a table_prefix instead")
            self._dialect = Sqlite(self._tables, clock)
        else:
            self._dialect = Postgres(self._tables, clock)
        self._statements = Statements(self._tables, self._dialect)
        self._sweeping = threading.Lock()
        self._rounds: dict[bytes, _Round] = {}
        forget_after_fork(self)

    def __repr__(self) -> str:
        return f"SqlStore({self._shown!r}, table_prefix={self._tables.prefix!r}, schema={self._tables.schema!r})"

    def ddl(self) -> str:
        """The script that makes the tables, for those who manage their schema themselves. Connects to nothing."""
        return ddl(self._database, table_prefix=self._tables.prefix, schema=self._tables.schema)

    async def setup(self, *, create: bool) -> str:
        known = await self._ask(self._statements.known)
        if create and (known is None or known.schema < SCHEMA_VERSION):
            await self._change(self._statements.create)
            known = await self._ask(self._statements.known)
        if known is None:
            raise SchemaError(
                f"there are no tables named {self._tables.prefix}*: print the statements that make them with ddl() "
                "(or `tiered-cache ddl`) and apply them, or have them made by setup"
            )
        if known.schema < SCHEMA_VERSION:
            raise SchemaError(
                f"the tables named {self._tables.prefix}* were made by an older release (schema {known.schema}, this "
                f"one needs {SCHEMA_VERSION}): apply `{await self._ask(self._statements.upgrade)}` and then the output "
                "of ddl() (or `tiered-cache ddl`), or have it done by setup"
            )
        return known.identity

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        return await self._ask(lambda conn: self._statements.read(conn, digests, addresses, stale=stale))

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        return await self._ask(lambda conn: self._statements.peek(conn, digests))

    async def now(self) -> int:
        return await self._ask(self._statements.now)

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        if not entries:
            return []
        return await self._change(lambda conn: self._statements.write(conn, entries, journal))

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        if digests:
            await self._change(lambda conn: self._statements.delete(conn, digests, journal))

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        return await self._change(lambda conn: self._statements.clear(conn, address, journal))

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return await self._ask(lambda conn: self._statements.journal(conn, prefix, limit))

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        if notices:
            await self._change(lambda conn: self._statements.acknowledge(conn, notices))

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        names: list[tuple[bytes, bytes]] = []
        place: bytes | None = after
        while place is not None and len(names) < limit:
            page = await self._ask(lambda conn, at=place: self._statements.names(conn, address, at))
            names += [found for found in page.names if found[1].startswith(prefix)]
            place = page.after
        return names[:limit]

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        """As the protocol has it; one at a time in a process, a second call meanwhile returns 0."""
        if not self._sweeping.acquire(blocking=False):
            return 0
        try:
            removed = await self._reclaim_expired(limit)
            after = None
            while removed < limit:
                pending = await self._ask(lambda conn, after=after: self._statements.pending(conn, after))
                if pending is None:
                    self._rounds.clear()  # what is left here was ended by other processes
                    break
                removed += await self._reclaim_cleared(pending, limit - removed, empty)
                after = pending.address
            return removed
        finally:
            self._sweeping.release()

    async def _reclaim_expired(self, limit: int) -> int:
        expired = await self._ask(lambda conn: self._statements.expired(conn, limit))
        if not expired:
            return 0
        return len(await self._change(lambda conn: self._statements.remove_expired(conn, expired)))

    async def _reclaim_cleared(self, of: Pending, limit: int, empty: Emptying) -> int:
        """Goes on where the last call stopped, so that rows which live on are looked at once and not once a batch."""
        round_ = self._rounds.get(of.address)
        if round_ is None or round_.version != of.version:
            round_ = self._rounds[of.address] = _Round(of.version)
        removed = 0
        while removed < limit:
            gone, dead, round_.place = await self._sweep(of, round_.place, limit - removed, empty, wait=False)
            removed += gone
            # Those that somebody had locked may be left as they are: another round has to look.
            round_.left += dead - gone
            if round_.place is None:
                del self._rounds[of.address]
                if not round_.left:
                    await self._change(lambda conn: self._statements.reclaimed(conn, of))
                break
        return removed

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        version = await self._ask(lambda conn: self._statements.watermark(conn, address))
        if version is None:
            return 0
        erased = 0
        place = None
        while erased < limit:
            gone, _, place = await self._sweep(Pending(address, version), place, limit - erased, empty, wait=True)
            erased += gone
            if place is None:
                break
        return erased

    async def _sweep(
        self, of: Pending, place: Place | None, limit: int, empty: Emptying, *, wait: bool
    ) -> tuple[int, int, Place | None]:
        """Removes dead rows from the next page of a range: how many, of how many, and where to go on."""
        page = await self._ask(lambda conn: self._statements.page(conn, of, place, limit))
        if not page.dead:
            return 0, 0, page.place
        await empty(page.dead)
        gone = await self._change(lambda conn: self._statements.remove_cleared(conn, page.dead, of.version, wait=wait))
        return len(gone), len(page.dead), page.place

    async def aclose(self) -> None:
        await self._runner.aclose()

    def forget(self) -> None:
        """After a fork, in the child."""
        self._sweeping = threading.Lock()

    async def _ask(self, work: Callable[[Connection], T]) -> T:
        def ask(conn: Connection, attempt: Attempt) -> T:
            attempt.begin()
            return work(conn)

        return await self._run(ask, changing=False)

    async def _change(self, work: Callable[[Connection], T]) -> T:
        def change(conn: Connection, attempt: Attempt) -> T:
            attempt.begin()
            try:
                self._dialect.begin_change(conn)
                result = work(conn)
                attempt.check()
                self._dialect.commit_change(conn)
            except BaseException:
                self._dialect.abandon_change(conn)
                raise
            return result

        return await self._run(change, changing=True)

    async def _run(self, work: Callable[[Connection, Attempt], T], *, changing: bool) -> T:
        attempt = Attempt(self._timeout)
        try:
            return await self._runner.run(work, attempt, changing=changing)
        except Exception as error:  # drivers share no base class; what is no fault of theirs goes on as it is
            if isinstance(error, TypeError) and not attempt.begun:
                raise ConfigurationError(f"the driver does not take the options in {self._shown}?...") from error
            if not is_fault(error):
                raise
            raise unavailable(error, begun=attempt.begun, changing=changing) from error
