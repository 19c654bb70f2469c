"""The cache that everybody writes first, over the very same two tiers: what the races are shown to break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tiered_cache import MISSING, Entry, Front, PlainCodec, Step, Store
from tiered_cache._cells import intact, payload_of, read_value, seal, value_cell
from tiered_cache._keys import Scope, front_key
from tiered_cache._rule import MARK_WRITE, SETTLE_WRITE

_MARK_TTL: Final = 60_000  # longer than any test is held up


class NaiveCache:
    """Look-aside reads and write-through writes over the same two tiers, as everybody writes them first.

    Ask the front, then the store, and put what it had; change the store, then the front. No marks. `clear` empties the
    cells of `names`, which stand for what a scan would find. `judging` adds watermarks kept in the front, in the same
    naive order: a cell counts above them alone, and one that is missing is loaded, or taken for 0 (`missing_is_zero`).
    """

    def __init__(
        self, front: Front, store: Store, prefix: bytes, scope: Scope, names: Sequence[str], judging: str = ""
    ) -> None:
        self._front, self._store = front, store
        self._prefix, self._scope, self._names = prefix, scope, names
        self._judging = judging
        self._codec = PlainCodec()

    async def get(self, key: str, default: Any = None) -> Any:
        digest = self._scope.key(key).digest
        floor = await self._floor() if self._judging else 0
        (cell,) = await self._front.get([front_key(self._prefix, digest)])
        value = read_value(digest, cell) if cell else None
        if value is None or value.version <= floor:
            found = await self._store.read([digest], self._scope.addresses)
            row = found.rows.get(digest)
            if row is None or row.version <= max(found.watermarks.values(), default=0):
                return default
            await self._put(digest, row.version, row.envelope)
            return self._open(digest, row.envelope)
        return self._open(digest, value.envelope)

    async def set(self, key: str, value: Any) -> None:
        digest = self._scope.key(key).digest
        envelope = seal(digest, self._codec.id, self._codec.encode(value))
        (version,) = await self._store.write([Entry(digest, self._scope.address, envelope)])
        await self._put(digest, version, envelope)

    async def delete(self, key: str) -> None:
        digest = self._scope.key(key).digest
        await self._store.delete([digest])
        await self._empty(digest)

    async def clear(self) -> None:
        version = await self._store.clear(self._scope.address)
        if self._judging:
            await self._put(self._scope.watermark, version, b"")
            return
        for name in self._names:
            await self._empty(self._scope.key(name).digest)

    async def _floor(self) -> int:
        digest = self._scope.watermark
        (cell,) = await self._front.get([front_key(self._prefix, digest)])
        value = read_value(digest, cell) if cell else None
        if value is not None:
            return value.version
        if self._judging == "missing is zero":
            return 0
        watermarks: Mapping[bytes, int] = (await self._store.read([], [self._scope.address])).watermarks
        await self._put(digest, version := watermarks.get(self._scope.address, 0), b"")
        return version

    async def _put(self, digest: bytes, version: int, envelope: bytes) -> None:
        """A plain SET, in terms of the rule."""
        key, token = front_key(self._prefix, digest), b"naive" + bytes(11)
        await self._front.apply([Step(MARK_WRITE, key)], token, _MARK_TTL)
        await self._front.apply(
            [Step(SETTLE_WRITE, key, value_cell(digest, version, envelope), 60_000)], token, _MARK_TTL
        )

    async def _empty(self, digest: bytes) -> None:
        await self._front.apply([Step(SETTLE_WRITE, front_key(self._prefix, digest))], bytes(16), _MARK_TTL)

    def _open(self, digest: bytes, envelope: bytes) -> Any:
        payload = payload_of(envelope, self._codec.id) if intact(digest, envelope) else None
        return MISSING if payload is None else self._codec.decode(payload)
