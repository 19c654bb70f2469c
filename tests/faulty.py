"""An embedded cache to whose tiers anything can happen."""

from __future__ import annotations

import pytest

from tests.doubles import DictStore
from tiered_cache import MemoryFront, TieredCache
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._gates import PATIENCE_SECONDS


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(DictStore())


@pytest.fixture
def cache(store: FaultyStore) -> TieredCache:
    return TieredCache(FaultyFront(MemoryFront()), store, front_timeout=PATIENCE_SECONDS)
