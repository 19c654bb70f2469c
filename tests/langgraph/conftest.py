"""A cache on the tiers of `world`, and a LangGraph cache on it.

Most modules need one world only: pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.aging import aged as aged
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache


@pytest.fixture
def cache(world: World) -> Generator[TieredCache]:
    # A busy machine must not turn hits of the front into hits of the store, which tests tell apart.
    cache = TieredCache(world.front, world.store, front_timeout=2.0)
    yield cache
    cache.close()


@pytest.fixture
def results(cache: TieredCache) -> LangGraphCache[Any]:
    return LangGraphCache(cache)
