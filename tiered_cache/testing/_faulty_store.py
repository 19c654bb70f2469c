"""A store that fails, hangs and gives back damaged rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from tiered_cache._errors import StoreUnavailableError
from tiered_cache._tiers import Emptying, Entry, Found, Notice, Row, Store

from ._faults import Faulty, When


class FaultyStore(Faulty):
    """A store round another, to which anything can happen on the way. It closes the inner one with itself.

    Its calls are named like the methods of a store.

        store = FaultyStore(SqlStore("sqlite:///cache.db"))
        store.fail("write")                      # the next write never arrives
        store.fail("write", "after")             # the next write commits, and does not say so
        gate = store.stop("read", "after")       # the next read stops once it has its answer
        store.corrupt("read")                    # what the next read finds is damaged
        store.at_random(0.1, seed=7)             # from now on every tenth call meets some fault
        store.down = True                        # nothing answers any more

    It needs nothing of an event loop: round an embedded store it works on trio as well.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__()
        #: The store that answers in the end.
        self.inner = inner

    async def setup(self, *, create: bool) -> str:
        return await self._pass_on("setup", (), partial(self.inner.setup, create=create))

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        return await self._pass_on("read", digests, partial(self.inner.read, digests, addresses, stale=stale))

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        return await self._pass_on("peek", digests, partial(self.inner.peek, digests))

    async def now(self) -> int:
        return await self._pass_on("now", (), self.inner.now)

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        digests = [entry.digest for entry in entries]
        return await self._pass_on("write", digests, partial(self.inner.write, entries, journal))

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        await self._pass_on("delete", digests, partial(self.inner.delete, digests, journal))

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        return await self._pass_on("clear", [address], partial(self.inner.clear, address, journal))

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return await self._pass_on("journal", (), partial(self.inner.journal, prefix, limit))

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        cells = [notice.cell for notice in notices]
        await self._pass_on("acknowledge", cells, partial(self.inner.acknowledge, notices))

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        return await self._pass_on("names", (), partial(self.inner.names, address, prefix, after, limit))

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        return await self._pass_on("reclaim", (), partial(self.inner.reclaim, limit, empty))

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        return await self._pass_on("erase", (), partial(self.inner.erase, address, limit, empty))

    async def aclose(self) -> None:
        """Closes the inner store, whatever is planned."""
        await self.inner.aclose()

    def _unavailable(self, message: str, when: When) -> StoreUnavailableError:
        return StoreUnavailableError(message, outcome_known=when == "before")

    def _damaged(self, answer: Any) -> Any:
        if isinstance(answer, Found):
            return Found(self._damaged_rows(answer.rows), answer.watermarks)
        return self._damaged_rows(cast("Mapping[bytes, Row]", answer)) if isinstance(answer, Mapping) else answer

    def _damaged_rows(self, rows: Mapping[bytes, Row]) -> Mapping[bytes, Row]:
        return {key: row._replace(envelope=self._damage(row.envelope)) for key, row in rows.items()}
