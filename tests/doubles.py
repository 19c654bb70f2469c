"""Test doubles for the engine: a store in a dict, and a computation that counts its runs.

Tiers that are watched, stopped and broken at will are `tiered_cache.testing`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tiered_cache import Entry, Found, Row
from tiered_cache._keys import LEVEL_BYTES
from tiered_cache._tiers import Emptying, Notice
from tiered_cache.testing import Gate


class Computation:
    """Counts its runs; stops at a gate each time, if there is one."""

    def __init__(self, result: Any = "computed", gate: Gate | None = None) -> None:
        self.runs = 0
        self.result = result
        self.gate = gate

    async def __call__(self) -> Any:
        self.runs += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class _Kept(NamedTuple):
    version: int
    expires: float | None
    entry: Entry

    def gone(self, now: float, *, stale: bool = True) -> bool:
        return self.expires is not None and self.expires + (self.entry.grace if stale else 0) <= now


class DictStore:
    """A store in a dict: the least that the protocol asks of somebody who writes one. `clock` counts milliseconds."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0, identity: str = "dict") -> None:
        self.rows: dict[bytes, _Kept] = {}
        self.watermarks: dict[bytes, int] = {}
        self.notices: dict[bytes, int] = {}
        self._version = 0
        self._clock = clock
        self._identity = identity

    async def setup(self, *, create: bool) -> str:
        return self._identity

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        rows: dict[bytes, Row] = {}
        for digest in digests:
            kept = self.rows.get(digest)
            if kept is not None and not kept.gone(self._clock(), stale=stale):
                rows[digest] = Row(kept.version, self._left(kept), kept.entry.envelope)
        return Found(rows, {a: self.watermarks[a] for a in addresses if a in self.watermarks})

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        kept = {digest: self.rows[digest] for digest in digests if digest in self.rows}
        return {digest: Row(row.version, self._left(row), row.entry.envelope) for digest, row in kept.items()}

    async def now(self) -> int:
        return int(self._clock())

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        self._record(journal)
        for entry in entries:
            expires = None if entry.ttl is None else self._clock() + entry.ttl
            self.rows[entry.digest] = _Kept(self._next(), expires, entry)
        return [self.rows[entry.digest].version for entry in entries]

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        self._record(journal)
        for digest in digests:
            self.rows.pop(digest, None)

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        self._record(journal)
        self.watermarks[address] = self._next()
        return self.watermarks[address]

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return [Notice(*notice) for notice in self.notices.items() if notice[0].startswith(prefix)][:limit]

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        for cell, version in notices:
            if self.notices.get(cell) == version:
                del self.notices[cell]

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        found = [
            (digest, kept.entry.name)
            for digest, kept in sorted(self.rows.items())
            if digest > after
            and kept.entry.address == address
            and kept.entry.name is not None
            and kept.entry.name.startswith(prefix)
            and not kept.gone(self._clock(), stale=False)
            and not self._cleared(kept)
        ]
        return found[:limit]

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        return await self._remove(limit, empty, lambda kept: kept.gone(self._clock()) or self._cleared(kept))

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        floor = self.watermarks.get(address, 0)
        return await self._remove(
            limit, empty, lambda kept: kept.entry.address.startswith(address) and kept.version < floor
        )

    async def aclose(self) -> None:
        """Keeps everything: it may be used again."""

    def _left(self, kept: _Kept) -> int | None:
        return None if kept.expires is None else int(kept.expires - self._clock())

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _record(self, journal: Sequence[bytes]) -> None:
        for cell in journal:
            self.notices[cell] = self._next()

    def _cleared(self, kept: _Kept) -> bool:
        address = kept.entry.address
        above = (address[:end] for end in range(0, len(address) + 1, LEVEL_BYTES))
        return any(kept.version < self.watermarks.get(a, 0) for a in above)

    async def _remove(self, limit: int, empty: Emptying, unwanted: Callable[[_Kept], bool]) -> int:
        digests = [digest for digest, kept in self.rows.items() if unwanted(kept)][:limit]
        if digests:
            await empty(digests)
        gone = [digest for digest in digests if digest in self.rows and unwanted(self.rows[digest])]
        for digest in gone:
            del self.rows[digest]
        return len(gone)
