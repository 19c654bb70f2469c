"""What the parts of the store's suite have in common: how a store is made."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from tiered_cache._tiers import Store

from ._clock import ManualClock
from ._entries import left

_PATIENCE_SECONDS: Final = 20.0


class StoreTests:
    """The factories that `StoreSuite` tells about."""

    #: Where time can be injected: the clock of the stores that `store` makes. Expiry is then tested to the millisecond.
    clock: ManualClock | None = None

    def store(self) -> AbstractAsyncContextManager[Store]:
        """A store that holds nothing, not set up yet, open for the length of one test."""
        raise NotImplementedError("say how a store is made: an async context manager that yields an empty one")

    def another(self, store: Store) -> AbstractAsyncContextManager[Store]:
        """One more store on the data of this one, as another process has it. Where there can be none, the same."""
        return _the_same(store)

    def unreachable(self) -> Store | None:
        """A store whose database is not there, where there can be such a thing."""
        return None

    @asynccontextmanager
    async def ready(self) -> AsyncGenerator[Store]:
        """A store that has been set up."""
        async with self.store() as store:
            await store.setup(create=True)
            yield store

    async def expired(self, store: Store, *keys: object) -> None:
        """Returns when the entries under these keys, which had a millisecond to live, have expired."""
        if self.clock is not None:
            self.clock.advance(0.001)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while await left(store, *keys):
            assert time.monotonic() < deadline, "still there long after their time"


@asynccontextmanager
async def _the_same(store: Store) -> AsyncGenerator[Store]:
    yield store
