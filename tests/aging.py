"""Values that grow old when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache._sql import SqlStore
from tiered_cache.testing import ManualClock


class Aged(NamedTuple):
    cache: TieredCache
    clock: ManualClock


@pytest.fixture
async def aged(world: World) -> AsyncIterator[Aged]:
    """A cache on the tiers of `world`, whose store goes by `clock`."""
    clock = ManualClock()
    store = SqlStore(world.store, clock=clock)
    cache = TieredCache(world.front, store, clock=clock, front_timeout=5.0)
    yield Aged(cache, clock)
    await cache.aclose()
    await store.aclose()
