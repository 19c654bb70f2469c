"""LangChain's own embeddings cache, on the byte store."""

from __future__ import annotations

import pytest
from langchain_classic.embeddings.cache import CacheBackedEmbeddings
from langchain_core.embeddings import Embeddings

from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langchain import TieredByteStore


class CountingEmbeddings(Embeddings):
    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.embedded.append(text)
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        return [float(len(text)), 1 / 3, -0.0, 1e-300, *([0.1] * 1532)]


def cached(model: CountingEmbeddings, store: TieredByteStore) -> CacheBackedEmbeddings:
    return CacheBackedEmbeddings.from_bytes_store(
        model, store, namespace="m-1", key_encoder="sha256", query_embedding_cache=True
    )


def test_documents_and_queries_are_embedded_once(world: World, store: TieredByteStore) -> None:
    model = CountingEmbeddings()
    embedder = cached(model, store)
    texts = ["", "a", "é\x00", "a" * 5000]
    first = embedder.embed_documents(texts)
    world.lose_front()
    assert embedder.embed_documents(texts[::-1]) == first[::-1]
    assert embedder.embed_query("what?") == embedder.embed_query("what?")
    assert model.embedded == [*texts, "what?"]


async def test_both_faces_share_the_vectors(store: TieredByteStore) -> None:
    model = CountingEmbeddings()
    embedder = cached(model, store)
    first = await embedder.aembed_documents(["a", "b"])
    assert embedder.embed_documents(["b", "a"]) == first[::-1]
    assert await embedder.aembed_query("q") == embedder.embed_query("q")
    assert model.embedded == ["a", "b", "q"]


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestOneWorldIsEnough:
    def test_models_with_stores_of_their_own_share_nothing(self, cache: TieredCache) -> None:
        first, second = CountingEmbeddings(), CountingEmbeddings()
        cached(first, TieredByteStore(cache, namespace=("embeddings", "m-1"))).embed_documents(["a"])
        cached(second, TieredByteStore(cache, namespace=("embeddings", "m-2"))).embed_documents(["a"])
        assert first.embedded == second.embedded == ["a"]

    def test_a_damaged_vector_is_embedded_again(self, cache: TieredCache, store: TieredByteStore) -> None:
        model = CountingEmbeddings()
        embedder = cached(model, store)
        first = embedder.embed_documents(["a", "b"])
        (key, _) = sorted(store.yield_keys())
        cache.namespace("bytestore").sync.set(key, "of another kind")
        assert embedder.embed_documents(["a", "b"]) == first
        assert len(model.embedded) == 3


def test_without_any_tier_everything_is_embedded(tmp_path: object) -> None:
    cache = TieredCache("redis://127.0.0.1:1/0", "postgresql+asyncpg://nobody@127.0.0.1:1/none")
    model = CountingEmbeddings()
    embedder = cached(model, TieredByteStore(cache))
    assert len(embedder.embed_documents(["a", "b"])) == 2
    assert embedder.embed_query("q")
    assert cache.stats().adapter_errors > 0
    cache.close()
