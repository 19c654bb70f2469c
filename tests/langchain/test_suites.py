"""The suites that LangChain publishes for caches, stores and embeddings, over three pairs of tiers."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    EmbeddingsIntegrationTests,
    SyncCacheTestSuite,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from tiered_cache import TieredCache
from tiered_cache.langchain import CachedEmbeddings, LangChainCache, TieredByteStore


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


class Embedder:
    """What both suites ask of a model of embeddings."""

    @pytest.fixture(autouse=True)
    def on_the_tiers(self, cache: TieredCache) -> None:
        self._cache = cache

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return CachedEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embeddings": DeterministicFakeEmbedding(size=12), "cache": self._cache, "model": "fake"}


class TestEmbedderUnit(Embedder, EmbeddingsUnitTests):
    pass


class TestEmbedder(Embedder, EmbeddingsIntegrationTests):
    async def test_all_of_it_once_more_from_the_cache(self, cache: TieredCache, model: Embeddings) -> None:
        for _ in range(2):
            self.test_embed_query(model)
            self.test_embed_documents(model)
            await self.test_aembed_query(model)
            await self.test_aembed_documents(model)
        assert cache.stats().sets == 5
