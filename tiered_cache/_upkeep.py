"""What keeps house: listing, removing what no longer counts, and telling the front what it missed."""

from __future__ import annotations

from collections.abc import Sequence

from ._access import Access
from ._cells import new_token
from ._errors import FrontUnavailableError
from ._keys import Scope, front_keys
from ._leases import is_lease
from ._rule import SETTLE_WRITE, Step

_NAMES_PER_PAGE = 500
_NOTICES_PER_PAGE = 500


class Upkeep:
    """Of both tiers of one cache."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def names(self, scope: Scope, prefix: bytes, after: bytes) -> Sequence[tuple[bytes, bytes]]:
        """The next page of valid (digest, name) in a namespace; nothing at the end."""
        await self._access.open()
        return await self._access.store.names(scope.address, prefix, after, _NAMES_PER_PAGE)

    async def remove_cleared(self, scope: Scope) -> int:
        """Returns when the rows of a cleared namespace, and the cells of those rows, are gone; how many there were.

        Raises FrontUnavailableError where the front does not answer: then rows may be left, unreadable, whose cells
        are to be emptied first, and another call goes on with them.
        """
        erased = 0
        while removed := await self._access.store.erase(scope.address, self._access.options.reclaim_rows, self._empty):
            erased += removed
        return erased

    async def reclaim(self) -> int:
        """Removes one small batch of expired and cleared rows; how many.

        Raises FrontUnavailableError where nothing is left but cleared rows, and the front does not answer.
        """
        await self._access.open()
        removed = await self._access.store.reclaim(self._access.options.reclaim_rows, self._empty)
        self._access.recorder.add("reclaimed", removed)
        return removed

    async def _empty(self, digests: Sequence[bytes]) -> None:
        """Empties the cells of rows that are about to be removed. After that, nobody knows where to look for them."""
        prefix = await self._access.open()
        keys = front_keys(prefix, digests)
        cells = await self._access.front.get(keys)
        # Somebody who computes the value anew has nothing to do with the old one, and must not lose his lease for it.
        old = [key for key, cell in zip(keys, cells or (), strict=False) if not (cell and is_lease(cell))]
        if cells is None or not await self._emptied(old):
            raise FrontUnavailableError(
                "the front does not answer, so what it holds of cleared namespaces stays, unreadable, until it does: "
                "try again later"
            )

    async def _emptied(self, keys: Sequence[bytes]) -> bool:
        # A writer's settle without its mark empties the cell, unless it is of a writer in between, who will. An empty
        # one too: a mark may have come since.
        return (
            not keys
            or await self._access.front.apply([Step(SETTLE_WRITE, key) for key in keys], new_token()) is not None
        )

    async def deliver(self) -> int:
        """Empties the cells that somebody could not mark when he changed what they stand for; how many.

        Raises FrontUnavailableError where the front still does not answer.
        """
        prefix = await self._access.open()
        doubts = self._access.doubts.now()
        delivered = 0
        while True:
            notices = await self._access.store.journal(prefix, _NOTICES_PER_PAGE)
            if not await self._emptied([notice.cell for notice in notices]):
                raise FrontUnavailableError("the front does not answer yet: it is told later what changed meanwhile")
            await self._access.store.acknowledge(notices)
            delivered += len(notices)
            if len(notices) < _NOTICES_PER_PAGE:
                break
        # Whatever was doubtful when this began, and committed, was in the journal, or somebody has delivered it.
        self._access.doubts.settle(doubts)
        self._access.recorder.add("delivered", delivered)
        return delivered
