"""A cache on the tiers of `world`, and a LangChain cache on it.

Most modules need one world only: pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.aging import aged as aged
from tests.worlds import PATIENT, World
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore


@pytest.fixture
def cache(world: World) -> Generator[TieredCache]:
    cache = TieredCache(world.front, world.store, **PATIENT)
    yield cache
    cache.close()


@pytest.fixture
def answers(cache: TieredCache) -> LangChainCache:
    return LangChainCache(cache)


@pytest.fixture
def store(cache: TieredCache) -> TieredByteStore:
    return TieredByteStore(cache)
