"""Freshness said round a model: LangChain passes no arguments on to its caches."""

from __future__ import annotations

import pytest

from tests.aging import Aged
from tests.langchain.embedders import CountingEmbeddings
from tests.langchain.models import CountingChat, CountingText
from tests.worlds import World
from tiered_cache import NotCachedError, TieredCache, freshness
from tiered_cache.langchain import CachedEmbeddings, LangChainCache, TieredByteStore

pytestmark = pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)


@pytest.fixture(params=[None, 20.0], ids=["alone", "single flight"])
def shared(request: pytest.FixtureRequest) -> float | None:
    return request.param


async def test_an_answer_that_is_too_old_for_one_caller_is_asked_for_anew_and_replaced(
    aged: Aged, shared: float | None
) -> None:
    llm = CountingChat(cache=LangChainCache(aged.cache, single_flight=shared))
    await llm.ainvoke("apples?")
    aged.clock.advance(100)
    with freshness(max_age=200):
        assert (await llm.ainvoke("apples?")).text == llm.invoke("apples?").text == "apples? #1"
    with freshness(max_age=50):
        assert (await llm.ainvoke("apples?")).text == "apples? #2"
        assert llm.invoke("apples?").text == "apples? #2"
    assert llm.invoke("apples?").text == "apples? #2"
    assert llm.calls == 2


async def test_a_model_asked_to_refresh_runs_and_its_answer_replaces_the_old_one(
    aged: Aged, shared: float | None
) -> None:
    llm = CountingChat(cache=LangChainCache(aged.cache, single_flight=shared))
    assert llm.invoke("apples?").text == "apples? #1"
    with freshness(refresh=True):
        assert llm.invoke("apples?").text == "apples? #2"
        assert (await llm.ainvoke("apples?")).text == "apples? #3"
    assert (await llm.ainvoke("apples?")).text == "apples? #3"
    assert llm.calls == 3


@pytest.mark.parametrize("kind", [CountingChat, CountingText])
async def test_a_model_that_would_have_to_be_paid_is_not_called(
    aged: Aged, kind: type[CountingChat | CountingText], shared: float | None
) -> None:
    llm = kind(cache=LangChainCache(aged.cache, single_flight=shared))
    text = llm.invoke("apples?")
    with freshness(only_if_cached=True):
        assert type(text) is type(await llm.ainvoke("apples?"))
        with pytest.raises(NotCachedError) as caught:
            await llm.ainvoke("a secret?")
        with pytest.raises(NotCachedError):
            llm.invoke("a secret?")
        with pytest.raises(NotCachedError):
            await llm.abatch(["apples?", "a secret?"])
        with freshness(max_age=10):
            aged.clock.advance(100)
            with pytest.raises(NotCachedError):
                llm.invoke("apples?")
    assert "secret" not in str(caught.value)
    assert aged.cache.stats().adapter_errors == 0
    assert llm.calls == 1


@pytest.mark.parametrize("tables", [True, False], ids=["tiers away", "no tables"])
async def test_where_nothing_can_be_read_nothing_is_paid_for_either(world: World, tables: bool) -> None:
    away = "redis://127.0.0.1:1", "sqlite:////nowhere/at/all.db"
    cache = TieredCache(*away) if tables else TieredCache(world.front, world.store, setup="never")
    llm, model = CountingChat(cache=LangChainCache(cache)), CountingEmbeddings()
    embedder = CachedEmbeddings(model, cache)
    with freshness(only_if_cached=True):
        for call in (llm.ainvoke("apples?"), embedder.aembed_documents(["a"]), embedder.aembed_query("a")):
            with pytest.raises(NotCachedError):
                await call
        with pytest.raises(NotCachedError):
            embedder.embed_documents(["a"])
        with pytest.raises(NotCachedError):
            embedder.embed_query("a")
    assert (llm.calls, model.batches, model.queries) == (0, [], [])
    await cache.aclose()


async def test_a_byte_store_gives_what_is_fresh_enough(aged: Aged) -> None:
    store = TieredByteStore(aged.cache)
    await store.amset([("old", b"1")])
    aged.clock.advance(100)
    store.mset([("new", b"2")])
    with freshness(max_age=50):
        assert await store.amget(["old", "new"]) == store.mget(["old", "new"]) == [None, b"2"]
    with freshness(refresh=True):
        assert await store.amget(["old", "new"]) == store.mget(["old", "new"]) == [None, None]
    assert store.mget(["old", "new"]) == [b"1", b"2"]


async def test_vectors_that_are_too_old_for_one_caller_are_made_anew_and_replaced(aged: Aged) -> None:
    model = CountingEmbeddings(vector=lambda _: [float(len(model.batches))])
    embedder = CachedEmbeddings(model, aged.cache)
    await embedder.aembed_documents(["a"])
    aged.clock.advance(100)
    with freshness(max_age=200):
        assert await embedder.aembed_documents(["a"]) == embedder.embed_documents(["a"]) == [[1.0]]
    embedder.embed_documents(["b"])
    with freshness(max_age=50):
        assert await embedder.aembed_documents(["a", "b"]) == [[3.0], [2.0]]
        assert embedder.embed_documents(["a", "b"]) == [[3.0], [2.0]]
    with freshness(refresh=True):
        assert embedder.embed_documents(["a"]) == [[4.0]]
        assert await embedder.aembed_documents(["a"]) == [[5.0]]
    assert embedder.embed_documents(["a", "b"]) == [[5.0], [2.0]]
    assert model.batches == [["a"], ["b"], ["a"], ["a"], ["a"]]


async def test_a_model_of_embeddings_that_would_have_to_be_paid_is_not_called(aged: Aged) -> None:
    model = CountingEmbeddings()
    embedder = CachedEmbeddings(model, aged.cache)
    found = embedder.embed_documents(["a"]), embedder.embed_query("a")
    with freshness(only_if_cached=True):
        assert (await embedder.aembed_documents(["a"]), await embedder.aembed_query("a")) == found
        assert (embedder.embed_documents(["a"]), embedder.embed_query("a")) == found
        with pytest.raises(NotCachedError):
            embedder.embed_documents(["a", "b"])
        with pytest.raises(NotCachedError):
            await embedder.aembed_documents(["a", "b"])
        with pytest.raises(NotCachedError):
            embedder.embed_query("b")
        with pytest.raises(NotCachedError):
            await embedder.aembed_query("b")
    assert (model.documents, model.queries) == (["a"], ["a"])
    assert aged.cache.stats().adapter_errors == 0
