"""A real model of embeddings, whose wheel carries its weights: nothing is downloaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wordllama
from langchain_classic.embeddings.cache import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langchain import CachedEmbeddings, TieredByteStore

TEXTS = ["The cat sat on the mat.", "Interest rates rose again in March.", "A goalkeeper saved the penalty.", "cat"]
QUESTION = "When did interest go up?"


class WordLlama(Embeddings):
    """256 numbers of 4 bytes, normalized, from the weights in the wheel."""

    model = "l2_supercat_256"

    def __init__(self) -> None:
        loaded: Any = wordllama.WordLlama
        # It looks for its tokenizer where its wheel does not put it, unless it is told where that is.
        self._model = loaded.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
        self.embedded: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return self._model.embed(texts, norm=True).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture(scope="module")
def loaded() -> WordLlama:
    return WordLlama()


@pytest.fixture
def model(loaded: WordLlama) -> WordLlama:
    loaded.embedded = []
    return loaded


def backed(model: WordLlama, cache: TieredCache) -> Embeddings:
    return CacheBackedEmbeddings.from_bytes_store(
        model, TieredByteStore(cache), namespace=model.model, key_encoder="sha256", query_embedding_cache=True
    )


@pytest.mark.parametrize("make", [CachedEmbeddings, backed])
async def test_vectors_from_the_cache_are_the_models_own(
    world: World, cache: TieredCache, model: WordLlama, make: Callable[[WordLlama, TieredCache], Embeddings]
) -> None:
    embedder = make(model, cache)
    expected = model.embed_documents([*TEXTS, QUESTION])
    model.embedded = []
    for _ in range(2):
        assert embedder.embed_documents(TEXTS) == await embedder.aembed_documents(TEXTS) == expected[:-1]
        assert embedder.embed_query(QUESTION) == await embedder.aembed_query(QUESTION) == expected[-1]
        assert model.embedded == [*TEXTS, QUESTION]
        world.lose_front()
    assert math.isclose(math.hypot(*expected[0]), 1, rel_tol=1e-6)


@pytest.mark.parametrize("make", [CachedEmbeddings, backed])
@pytest.mark.parametrize("world", ["embedded"], indirect=True)
async def test_an_index_built_again_finds_the_same_and_costs_nothing(
    cache: TieredCache, model: WordLlama, make: Callable[[WordLlama, TieredCache], Embeddings]
) -> None:
    for _ in range(2):
        index = InMemoryVectorStore(make(model, cache))
        await index.aadd_documents([Document(text) for text in TEXTS])
        (found,) = await index.asimilarity_search(QUESTION, k=1)
        assert found.page_content == TEXTS[1]
    assert model.embedded == [*TEXTS, QUESTION]
