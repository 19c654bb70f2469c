"""Observers are told of what comes through the adapters, as it is and not as an adapter makes the best of it."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import pytest
from langchain_core.outputs import Generation

from tests.doubles import DictStore
from tests.langchain.embedders import CountingEmbeddings
from tests.worlds import World
from tiered_cache import MemoryFront, Operation, TieredCache
from tiered_cache.langchain import CachedEmbeddings, LangChainCache, TieredByteStore
from tiered_cache.langgraph import LangGraphCache
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._gates import PATIENCE_SECONDS

MODEL = "model"


def watched(front: Any, store: Any) -> tuple[TieredCache, list[Operation]]:
    cache = TieredCache(front, store, front_timeout=PATIENCE_SECONDS)
    told: list[Operation] = []
    cache.observe(told.append)
    return cache, told


def brief(told: list[Operation]) -> list[tuple[Any, ...]]:
    return [(each.name, each.namespace, each.keys, each.hits_front, each.hits_store, each.misses) for each in told]


async def test_model_answers(world: World) -> None:
    cache, told = watched(world.front, world.store)
    answers = LangChainCache(cache)
    path = ("langchain", MODEL)
    try:
        await answers.alookup("secret", MODEL)
        await answers.aupdate("secret", MODEL, [Generation(text="secret")])
        await anyio.to_thread.run_sync(answers.lookup, "secret", MODEL)
        world.lose_front()
        await answers.alookup("secret", MODEL)
        await answers.adelete("secret", MODEL)
        await answers.aclear()
    finally:
        await cache.aclose()
    assert brief(told) == [
        ("get", path, 1, 0, 0, 1),
        ("set", path, 1, 0, 0, 0),
        ("get", path, 1, 1, 0, 0),
        ("get", path, 1, 0, 1, 0),
        ("delete", path, 1, 0, 0, 0),
        ("clear", path[:1], 0, 0, 0, 0),
    ]
    assert "secret" not in repr(told)


async def test_results_of_nodes(world: World) -> None:
    cache, told = watched(world.front, world.store)
    results = LangGraphCache[Any](cache)
    path = ("langgraph",)
    try:
        await results.aset({(("a",), "k"): (1, None), (("b",), "k"): (2, None), (("b",), "gone"): (3, 0)})
        keys = [(("a",), "k"), (("b",), "k"), (("b",), "gone"), (("c",), "x")]
        assert await results.aget(keys) == {keys[0]: 1, keys[1]: 2}
        world.lose_front()
        assert results.get(keys[:1]) == {keys[0]: 1}
        await results.aget([])
        await results.aclear([("a",), ("b",)])
    finally:
        await cache.aclose()
    assert brief(told) == [
        ("set", path, 2, 0, 0, 0),
        ("delete", (*path, "1:b"), 1, 0, 0, 0),
        ("get", path, 4, 2, 0, 2),
        ("get", (*path, "1:a"), 1, 0, 1, 0),
        ("clear", (*path, "1:a"), 0, 0, 0, 0),
        ("clear", (*path, "1:b"), 0, 0, 0, 0),
    ]
    stats = cache.stats()
    assert (stats.hits_front, stats.hits_store, stats.misses) == (2, 1, 2)


async def test_bytes(world: World) -> None:
    cache, told = watched(world.front, world.store)
    values = TieredByteStore(cache)
    try:
        await values.amset([("a", b"1"), ("b", b"2")])
        values.mget(["a", "a", "x"])
        await values.amdelete(["a"])
    finally:
        await cache.aclose()
    assert [(each.name, each.keys, each.hits_front, each.misses) for each in told] == [
        ("set", 2, 0, 0),
        ("get", 2, 1, 1),
        ("delete", 1, 0, 0),
    ]


async def test_embeddings(world: World) -> None:
    cache, told = watched(world.front, world.store)
    embedder = CachedEmbeddings(CountingEmbeddings(), cache)
    path = (*embedder._vectors.path, "documents")
    try:
        await embedder.aembed_documents(["a", "b", "a"])
        embedder.embed_documents(["a", "c"])
        world.lose_front()
        await embedder.aembed_documents(["a"])
    finally:
        await cache.aclose()
    assert brief(told) == [
        ("get", path, 2, 0, 0, 2),
        ("set", path, 2, 0, 0, 0),
        ("get", path, 2, 1, 0, 1),
        ("set", path, 1, 0, 0, 0),
        ("get", path, 1, 0, 1, 0),
    ]


@pytest.mark.parametrize("serve_miss", [False, True])
async def test_a_failure_that_an_adapter_hides_is_told(serve_miss: bool) -> None:
    store, model = FaultyStore(DictStore()), CountingEmbeddings()
    cache = TieredCache(FaultyFront(MemoryFront()), store, front_timeout=PATIENCE_SECONDS, serve_miss=serve_miss)
    results, answers, embedder = LangGraphCache[Any](cache), LangChainCache(cache), CachedEmbeddings(model, cache)
    await embedder.aembed_documents(["a"])
    keys = [(("a",), "k"), (("a",), "x")]
    await results.aset({keys[0]: (1, None)})
    await results.aget(keys)
    told: list[Operation] = []
    cache.observe(told.append)
    store.down = True
    assert await results.aget(keys) == {keys[0]: 1}
    assert await answers.alookup("p", MODEL) is None
    await embedder.aembed_documents(["a", "b"])
    assert model.batches == [["a"], ["b"]]
    outcome = "ok" if serve_miss else "StoreUnavailableError"
    assert [(each.name, each.outcome, each.hits_front, each.misses) for each in told] == [
        ("get", outcome, 1, 1),
        ("get", outcome, 0, 1),
        ("get", outcome, 1, 1),
        ("set", "StoreUnavailableError", 0, 0),
    ]
