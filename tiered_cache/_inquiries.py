"""What may be asked beside the way of a read. Nothing is marked, promoted, or counted as a read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._access import Access
from ._batch import Batcher, Reply
from ._errors import StoreUnavailableError
from ._keys import Key, Scope, front_keys
from ._look import Answer, Look, answer_of, floor
from ._tiers import Found, Row


class Inspected(NamedTuple):
    """What the tiers hold for one key, and what this process knows of it."""

    #: Whether the store has ever been reached; the cell, and those of the watermarks, None where the front did not
    #: answer; whether one of them is not to be believed.
    opened: bool
    cells: Sequence[bytes | None] | None = None
    doubtful: bool = False
    #: What the store says, expired rows in their time of grace included; None where it did not answer. The row that is
    #: not in it since it has expired for good.
    found: Found | None = None
    expired: Row | None = None
    #: The watermarks seen last, by address, as far as they were.
    remembered: Mapping[bytes, int] = {}


class Inquiries:
    """Those of one cache. Concurrent ones of a kind share an exchange."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._stales: Batcher[Key, Answer | None] = Batcher(self._read_stale, access.limits, access.weigh)
        self._peeks: Batcher[Key, Row | None] = Batcher(self._peek, access.limits, access.weigh)
        self._times: Batcher[None, None] = Batcher(self._ask_time, access.limits)
        self._clears: Batcher[Scope, int | None] = Batcher(self._cleared_at, access.limits)

    async def read_stale(self, key: Key) -> Answer | None:
        """What the store has of a key in its time of grace, if not longer; from the store alone, and not promoted."""
        (answer,) = await self._stales.ask([key])
        return answer

    async def _read_stale(self, keys: Sequence[Key], reply: Reply[Answer | None]) -> None:
        reply(await self._read_store(keys, stale=True))

    async def read_stored(self, keys: Sequence[Key]) -> Sequence[Answer | None]:
        """What the store has of a few keys, from the store alone, and not promoted."""
        return await self._read_store(keys, stale=False)

    async def _read_store(self, keys: Sequence[Key], *, stale: bool) -> Sequence[Answer | None]:
        await self._access.opened()
        wanted = {key.digest: key for key in keys}
        addresses = {address: None for key in wanted.values() for address in key.scope.addresses}
        found = await self._access.store.read(list(wanted), list(addresses), stale=stale)
        return [answer_of(found, key) for key in keys]

    async def peek(self, key: Key) -> Row | None:
        """The row of a key, cleared or expired or not, as long as it was not removed; from the store alone."""
        (row,) = await self._peeks.ask([key])
        return row

    async def _peek(self, keys: Sequence[Key], reply: Reply[Row | None]) -> None:
        await self._access.opened()
        rows = await self._access.store.peek(list({key.digest: None for key in keys}))
        reply([rows.get(key.digest) for key in keys])

    async def learn_time(self) -> None:
        """Asks the store what time it is, where the last answer is old, or never came. Raises nothing if it fails."""
        if self._access.prefix is not None and self._access.clock.due():
            await self._times.ask([None])

    async def _ask_time(self, questions: Sequence[None], reply: Reply[None]) -> None:
        asked = self._access.clock.tick()
        try:
            if self._access.store.breaker.state == "closed":
                self._access.clock.learn(asked, await self._access.store.now())
        except StoreUnavailableError:
            self._access.clock.failed()  # counted and logged where it was raised
        reply(questions)

    async def inspect(self, key: Key) -> Inspected:
        """What there is of a key. Nothing is marked, promoted or counted as a read, and nothing raised."""
        scope, found, expired = key.scope, None, None
        try:
            prefix = await self._access.opened()
        except StoreUnavailableError:
            return Inspected(opened=False)
        digests = (key.digest, *scope.watermarks.values())
        cells = await self._access.front.get(front_keys(prefix, digests))
        try:
            found = await self._access.store.read([key.digest], scope.addresses, stale=True)
            if key.digest not in found.rows:
                expired = (await self._access.store.peek([key.digest])).get(key.digest)
        except StoreUnavailableError:
            found = None  # counted and logged where it was raised
        await self.learn_time()
        known = self._access.remembered
        seen = {address: known[address].version for address in scope.addresses if address in known}
        doubts = self._access.doubts.among(lambda: digests)
        return Inspected(True, cells, doubts is None or bool(doubts), found, expired, seen)

    def last_cleared(self, scope: Scope) -> int | None:
        """The same as `cleared_at`, as far as this process remembers, without asking anybody."""
        seen = [self._access.remembered.get(address) for address in scope.addresses]
        return None if None in seen else max(each.version for each in seen if each is not None)

    async def cleared_at(self, scope: Scope) -> int | None:
        """The version of the last clear of a namespace or of one above it; None where nobody can tell.

        Both tiers are asked as a read would ask them.
        """
        try:
            (version,) = await self._clears.ask([scope])
        except StoreUnavailableError:
            return None
        return version

    async def _cleared_at(self, scopes: Sequence[Scope], reply: Reply[int | None]) -> None:
        look = Look([], await self._access.opened(), self._access.remembered, scopes)
        await self._access.ask_front(look)
        watermarks = dict(look.watermarks)
        if look.unknown:
            found = await self._access.store.read([], list(look.unknown))
            watermarks |= {address: found.watermarks.get(address, 0) for address in look.unknown}
        reply([floor(watermarks, scope) for scope in scopes])

    async def differing(self, keys: Sequence[Key]) -> list[Key] | None:
        """Those that the front would answer, before and after the store was asked, with what the store does not hold.

        None where the front does not answer. Nothing is promoted, and nothing is counted as a read.
        """
        before, after = [Look(keys, await self._access.opened(), {}) for _ in range(2)]
        if not await self._access.ask_front(before):
            return None
        addresses = {address: None for key in keys for address in key.scope.addresses}
        found = await self._access.store.read(list(before.answers), list(addresses))
        if not await self._access.ask_front(after):
            return None

        def differs(key: Key) -> bool:
            served, held = before.answers.get(key.digest), answer_of(found, key)
            if served is None or served != after.answers.get(key.digest):
                return False
            return held is None or held.envelope != served.envelope

        return [key for key in keys if differs(key)]
