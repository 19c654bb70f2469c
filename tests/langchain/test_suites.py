"""The suites that LangChain publishes for caches and stores, over three pairs of tiers."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    SyncCacheTestSuite,
)

from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore


class TestSyncCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, cache: TieredCache) -> LangChainCache:
        return LangChainCache(cache)


class TestAsyncCache(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, cache: TieredCache) -> LangChainCache:
        return LangChainCache(cache)


class TestSyncStore(BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, cache: TieredCache) -> TieredByteStore:
        return TieredByteStore(cache)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\x00\xff", b""


class TestAsyncStore(BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, cache: TieredCache) -> TieredByteStore:
        return TieredByteStore(cache)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\x00\xff", b""
