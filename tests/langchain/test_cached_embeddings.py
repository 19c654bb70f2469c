"""Embeddings that ask their model for each text once."""

from __future__ import annotations

import struct
from typing import Any, Literal

import anyio
import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from sqlalchemy import create_engine, text

from tests.langchain.embedders import CountingEmbeddings, thirds
from tests.servers import free_port
from tests.worlds import World
from tiered_cache import ConfigurationError, TieredCache
from tiered_cache._sql import SqlStore
from tiered_cache.langchain import CachedEmbeddings
from tiered_cache.testing import FaultyStore, Gate

ODD_TEXTS = ["", "a", "A", "é", "e\u0301", "a\x00", "\ud83d", "\U0001f600", "a" * 10_000]


def rounded(vector: list[float]) -> list[float]:
    return list(struct.unpack(f"{len(vector)}f", struct.pack(f"{len(vector)}f", *vector)))


class Face:
    """One way of calling; the same tests are for both."""

    def __init__(self, name: Literal["sync", "async"]) -> None:
        self.asynchronous = name == "async"

    async def documents(self, embedder: Embeddings, texts: list[str]) -> list[list[float]]:
        return await embedder.aembed_documents(texts) if self.asynchronous else embedder.embed_documents(texts)

    async def query(self, embedder: Embeddings, text: str) -> list[float]:
        return await embedder.aembed_query(text) if self.asynchronous else embedder.embed_query(text)


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def model() -> CountingEmbeddings:
    return CountingEmbeddings()


@pytest.fixture
def embedder(cache: TieredCache, model: CountingEmbeddings) -> CachedEmbeddings:
    return CachedEmbeddings(model, cache)


async def test_only_what_is_missing_is_embedded_once_and_in_order(
    world: World, model: CountingEmbeddings, embedder: CachedEmbeddings, face: Face
) -> None:
    assert await face.documents(embedder, ["b", "a", "b"]) == [rounded(thirds(text)) for text in "bab"]
    found = await face.documents(embedder, ["c", "a", "d", "c", "b"])
    assert found == [rounded(thirds(text)) for text in "cadcb"]
    world.lose_front()
    assert await face.documents(embedder, ["d", "c", "b", "a"]) == [rounded(thirds(text)) for text in "dcba"]
    assert await face.documents(embedder, []) == []
    assert model.batches == [["b", "a"], ["c", "d"]]


async def test_every_text_has_a_vector_of_its_own(model: CountingEmbeddings, embedder: CachedEmbeddings) -> None:
    first = await embedder.aembed_documents(ODD_TEXTS)
    assert first == [rounded(thirds(text)) for text in ODD_TEXTS]
    assert embedder.embed_documents(ODD_TEXTS[::-1]) == first[::-1]
    assert [await embedder.aembed_query(text) for text in ODD_TEXTS] == [[-n for n in vector] for vector in first]
    assert model.documents == model.queries == ODD_TEXTS


@pytest.mark.parametrize("precision", ["float32", "exact"])
async def test_the_first_call_returns_what_all_later_ones_do(
    world: World, cache: TieredCache, model: CountingEmbeddings, face: Face, precision: Any
) -> None:
    embedder = CachedEmbeddings(model, cache, precision=precision)
    expected = thirds("a") if precision == "exact" else rounded(thirds("a"))
    for _ in range(2):
        assert await face.documents(embedder, ["a"]) == [expected]
        assert await face.query(embedder, "a") == [-n for n in expected]
        world.lose_front()
    assert (model.documents, model.queries) == (["a"], ["a"])


async def test_what_was_rounded_is_never_given_to_who_wants_it_exact(cache: TieredCache) -> None:
    small, exact = CountingEmbeddings(), CountingEmbeddings()
    assert await CachedEmbeddings(small, cache).aembed_query("a") != small.embed_query("a")
    assert await CachedEmbeddings(exact, cache, precision="exact").aembed_query("a") == exact.embed_query("a")


async def test_a_vector_of_1536_numbers_takes_6_kb(world: World, cache: TieredCache) -> None:
    wide = CountingEmbeddings(vector=lambda _: [1 / 3] * 1536)
    await CachedEmbeddings(wide, cache).aembed_documents(["a"])
    await CachedEmbeddings(wide, cache, precision="exact").aembed_documents(["a"])
    engine = create_engine(world.store.replace("+asyncpg", "+psycopg"))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT length(envelope) FROM tiered_cache_entry ORDER BY 1")).scalars()
        sizes: list[int] = list(found)
    engine.dispose()
    assert 6144 < sizes[0] < 6144 + 64
    assert 12288 < sizes[1] < 12288 + 64


async def test_nobody_is_given_anybodys_list(cache: TieredCache, embedder: CachedEmbeddings, face: Face) -> None:
    expected = rounded(thirds("a"))
    for _ in range(3):  # missing; from the store or the front
        vectors = [*await face.documents(embedder, ["a", "a"]), *await face.documents(embedder, ["a"])]
        vectors += [await face.query(embedder, "q")]
        for vector in vectors[:3]:
            assert vector == expected
            assert {type(number) for number in vector} == {float}
            vector.clear()
        assert vectors[3] == [-n for n in rounded(thirds("q"))]
        vectors[3].clear()


async def test_queries_and_documents_are_kept_apart_unless_the_model_is_symmetric(
    cache: TieredCache, model: CountingEmbeddings, face: Face
) -> None:
    embedder = CachedEmbeddings(model, cache)
    assert await face.documents(embedder, ["a"]) != [await face.query(embedder, "a")]
    assert (model.documents, model.queries) == (["a"], ["a"])
    symmetric = CachedEmbeddings(model, cache, symmetric=True)
    assert await face.documents(symmetric, ["a"]) == [await face.query(symmetric, "a")]
    assert len(model.queries) == 1
    await face.query(symmetric, "b")
    assert await face.documents(symmetric, ["b"]) == [[-n for n in rounded(thirds("b"))]]
    assert model.documents == ["a"]


async def test_batches_are_as_large_as_was_said_and_stored_one_by_one(cache: TieredCache, face: Face) -> None:
    def unwell(text: str) -> list[float]:
        if text == "7":
            raise TimeoutError("no more requests today")
        return thirds(text)

    model = CountingEmbeddings(vector=unwell)
    embedder = CachedEmbeddings(model, cache, batch_size=3)
    texts = [str(n) for n in range(10)]
    with pytest.raises(TimeoutError, match="today"):
        await face.documents(embedder, texts)
    model.vector = thirds
    assert await face.documents(embedder, texts) == [rounded(thirds(text)) for text in texts]
    expected = [["0", "1", "2"], ["3", "4", "5"], ["6", "7", "8"]]
    assert model.batches == [*expected, ["6", "7", "8"], ["9"]]


async def test_more_texts_than_go_into_one_exchange(world: World, cache: TieredCache, face: Face) -> None:
    model = CountingEmbeddings(vector=lambda text: [float(text)] * 8)
    embedder = CachedEmbeddings(model, cache)
    texts = [str(n) for n in range(1000)]
    await face.documents(embedder, texts[::2])
    world.lose_front()
    assert await face.documents(embedder, texts) == [[float(text)] * 8 for text in texts]
    assert model.batches == [texts[::2], texts[1::2]]
    assert cache.stats().adapter_errors == 0


async def test_an_asynchronous_caller_uses_the_asynchronous_model(
    model: CountingEmbeddings, embedder: CachedEmbeddings, no_blocking_calls: None
) -> None:
    await embedder.aembed_documents(["a"])
    await embedder.aembed_query("a")
    assert model.asynchronous == 2


async def test_a_query_asked_by_many_at_once_is_embedded_once(cache: TieredCache) -> None:
    gate = Gate()
    model = CountingEmbeddings(gate=gate)
    embedder = CachedEmbeddings(model, cache)
    vectors: list[list[float]] = []

    async def ask() -> None:
        vectors.append(await embedder.aembed_query("q"))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask)
        await gate.reached()
        gate.open()
    assert model.queries == ["q"]
    assert vectors == [[-n for n in rounded(thirds("q"))]] * 10
    assert len({id(vector) for vector in vectors}) == 10


async def test_tenants_models_versions_and_settings_share_nothing(cache: TieredCache) -> None:
    class Sized(CountingEmbeddings):
        dimensions = 8

    class Other(CountingEmbeddings):
        pass

    first, second, sized, other, elsewhere = (
        CountingEmbeddings(), CountingEmbeddings("m-2"), Sized(), Other(), CountingEmbeddings()
    )  # fmt: skip
    elsewhere.base_url = "http://localhost:1234"  # pyright: ignore[reportAttributeAccessIssue]
    embedders = [CachedEmbeddings(each, cache) for each in (first, second, sized, other, elsewhere)]
    embedders += [
        CachedEmbeddings(CountingEmbeddings(), cache, version="2"),
        CachedEmbeddings(CountingEmbeddings(), cache, model="m-1"),
        CachedEmbeddings(CountingEmbeddings(), cache, precision="exact"),
        CachedEmbeddings(CountingEmbeddings(), cache, namespace=("embeddings", "sub")),
        CachedEmbeddings(CountingEmbeddings(), cache.namespace("tenant-1")),
        CachedEmbeddings(CountingEmbeddings(), cache.namespace("tenant-2")),
    ]
    for embedder in embedders:
        await embedder.aembed_documents(["a"])
        await embedder.aembed_query("a")
    asked = [embedder._embeddings for embedder in embedders]
    assert all(isinstance(model, CountingEmbeddings) and model.documents == ["a"] == model.queries for model in asked)
    assert len({repr(embedder) for embedder in embedders}) == len(embedders)
    await embedders[-2].aclear()
    for embedder in embedders:
        await embedder.aembed_documents(["a"])
    assert [len(model.documents) for model in asked if isinstance(model, CountingEmbeddings)] == [1] * 9 + [2, 1]


async def test_a_name_that_was_given_stands_for_the_model_and_not_for_its_settings(cache: TieredCache) -> None:
    class Sized(CountingEmbeddings):
        dimensions = 8

    class Other(CountingEmbeddings):
        pass

    models = CountingEmbeddings(), Other("m-2"), Sized()
    for model in models:
        await CachedEmbeddings(model, cache, model="mine").aembed_documents(["a"])
    assert [model.documents for model in models] == [["a"], [], ["a"]]


async def test_another_process_finds_them_by_the_same_name(world: World, cache: TieredCache) -> None:
    await CachedEmbeddings(CountingEmbeddings(), cache).aembed_documents(["a"])
    other, model = TieredCache(world.other_front(), world.store), CountingEmbeddings()
    await CachedEmbeddings(model, other).aembed_documents(["a"])
    assert model.documents == []
    await other.aclose()


async def test_single_texts_and_all_of_a_model_can_be_forgotten(
    model: CountingEmbeddings, embedder: CachedEmbeddings, face: Face
) -> None:
    async def ask() -> None:
        await face.documents(embedder, ["a", "b"])
        await face.query(embedder, "a")

    await ask()
    await embedder.adelete(["a", "none"]) if face.asynchronous else embedder.delete(["a", "none"])
    await ask()
    assert (model.batches[1:], len(model.queries)) == ([["a"]], 2)
    await embedder.aclear() if face.asynchronous else embedder.clear()
    await ask()
    assert (model.batches[2:], len(model.queries)) == ([["a", "b"]], 3)


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestOneWorldIsEnough:
    @pytest.mark.parametrize("count", [0, 1, 3])
    async def test_another_number_of_vectors_is_an_error_and_none_is_stored(
        self, cache: TieredCache, face: Face, count: int
    ) -> None:
        class Wrong(CountingEmbeddings):
            def embed_documents(self, texts: list[str]) -> Any:
                return [thirds("a")] * count

        with pytest.raises(ConfigurationError, match=r"m-1 returned \d vectors for 2 texts"):
            await face.documents(CachedEmbeddings(Wrong(), cache), ["a", "b"])
        assert cache.stats().sets == 0

    async def test_vectors_of_several_lengths_are_an_error_and_none_is_stored(
        self, cache: TieredCache, face: Face
    ) -> None:
        embedder = CachedEmbeddings(CountingEmbeddings(vector=lambda text: [0.5] * len(text)), cache)
        with pytest.raises(ConfigurationError, match="of 1 and of 2 numbers"):
            await face.documents(embedder, ["a", "bb"])
        assert cache.stats().sets == 0

    async def test_a_model_whose_length_changed_is_noticed(self, cache: TieredCache, face: Face) -> None:
        await face.documents(CachedEmbeddings(CountingEmbeddings(), cache), ["a"])
        embedder = CachedEmbeddings(CountingEmbeddings(vector=lambda _: [0.5] * 4), cache)
        with pytest.raises(ConfigurationError, match=r"of 4 and of 8 numbers.*version="):
            await face.documents(embedder, ["a", "b"])
        assert cache.stats().sets == 1

    @pytest.mark.parametrize(
        "row", [[0.5, float("nan")], [float("inf"), 0.5], []], ids=["not a number", "infinite", "empty"]
    )
    async def test_an_odd_vector_is_returned_and_not_stored(
        self, cache: TieredCache, face: Face, row: list[float]
    ) -> None:
        class Odd(CountingEmbeddings):
            def embed_query(self, text: str) -> Any:
                self.queries.append(text)
                return row

        model = Odd(vector=lambda text: row if text == "odd" else [0.5, 0.5])
        embedder = CachedEmbeddings(model, cache)
        for n in range(1, 3):
            assert repr(await face.documents(embedder, ["a", "odd"])) == repr([[0.5, 0.5], row])
            assert repr(await face.query(embedder, "odd")) == repr(row)
            assert (model.documents.count("odd"), model.documents.count("a"), len(model.queries)) == (n, 1, n)
            assert (cache.stats().unsupported, cache.stats().adapter_errors) == (2 * n, 0)

    @pytest.mark.parametrize("row", [None, "abc", b"12345678", ["a"], [None, 0.5], [[0.5]], 5], ids=repr)
    async def test_what_is_no_vector_is_an_error(self, cache: TieredCache, face: Face, row: Any) -> None:
        class Wrong(CountingEmbeddings):
            def embed_query(self, text: str) -> Any:
                self.queries.append(text)
                return row

        model = Wrong(vector=lambda _: row)
        embedder = CachedEmbeddings(model, cache)
        with pytest.raises(ConfigurationError, match=f"m-1 returned a {type(row).__name__}"):
            await face.documents(embedder, ["a"])
        with pytest.raises(ConfigurationError, match="m-1 returned"):
            await face.query(embedder, "a")
        assert model.queries == ["a"]
        assert (cache.stats().sets, cache.stats().adapter_errors) == (0, 0)

    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int8])
    async def test_arrays_come_out_as_lists_of_floats(self, cache: TieredCache, face: Face, kind: Any) -> None:
        class Arrays(CountingEmbeddings):
            def embed_documents(self, texts: list[str]) -> Any:
                return np.array([[1, 2, 3]] * len(texts), dtype=kind)

            def embed_query(self, text: str) -> Any:
                return np.array([1, 2, 3], dtype=kind)

        embedder = CachedEmbeddings(Arrays(), cache, precision="exact")
        for _ in range(2):
            for vector in (*await face.documents(embedder, ["a", "b"]), await face.query(embedder, "a")):
                assert vector == [1.0, 2.0, 3.0]
                assert type(vector) is list
                assert {type(number) for number in vector} == {float}

    async def test_numbers_too_large_for_4_bytes_are_kept(self, cache: TieredCache, face: Face) -> None:
        embedder = CachedEmbeddings(CountingEmbeddings(vector=lambda _: [1e300, 1 / 3]), cache)
        for _ in range(2):
            assert await face.documents(embedder, ["a"]) == [[1e300, 1 / 3]]

    @pytest.mark.parametrize("texts", ["abc", [b"a"], [1], [None], [["a"], "b"]], ids=repr)
    async def test_what_is_no_list_of_texts_is_an_error(
        self, model: CountingEmbeddings, embedder: CachedEmbeddings, face: Face, texts: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match="text"):
            await face.documents(embedder, texts)
        if texts != "abc":
            with pytest.raises(ConfigurationError, match="text"):
                await face.query(embedder, texts[0])
        assert (model.batches, model.queries) == ([], [])

    async def test_a_damaged_vector_is_embedded_again(
        self, cache: TieredCache, model: CountingEmbeddings, embedder: CachedEmbeddings, face: Face
    ) -> None:
        first = await face.documents(embedder, ["a", "b"])
        path = embedder._documents.path
        await cache.namespace(*path).set("a", "of another kind")
        for cut in (b"", b"\x01", b"\x01\x00", b"\x02" + bytes(12), b"\x01\x00\x00\xc0\x7f", b"\x03" + bytes(8)):
            await cache.namespace(*path, codec=Planting()).set("b", cut)
            assert await face.documents(embedder, ["a", "b"]) == first
        assert model.documents.count("a") == 2
        assert model.documents.count("b") == 7

    async def test_they_expire(self, cache: TieredCache, model: CountingEmbeddings, face: Face) -> None:
        embedder = CachedEmbeddings(model, cache, ttl=0.001)
        for _ in range(2):
            await face.documents(embedder, ["a"])
            await face.query(embedder, "a")
            await anyio.sleep(0.005)
        assert (len(model.documents), len(model.queries)) == (2, 2)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"embeddings": object()},
            {"cache": {}},
            {"model": ""},
            {"model": 5},
            {"precision": "float16"},
            {"batch_size": 0},
            {"batch_size": True},
            {"ttl": 0},
            {"namespace": (1,)},
        ],
        ids=str,
    )
    def test_wrong_arguments_are_errors(self, cache: TieredCache, wrong: dict[str, Any]) -> None:
        make: Any = CachedEmbeddings
        with pytest.raises(ConfigurationError):
            make(**{"embeddings": CountingEmbeddings(), "cache": cache, **wrong})


class Planting:
    """Writes any bytes as if they were a vector."""

    id = 5

    def encode(self, value: Any) -> bytes:
        return value

    def decode(self, payload: bytes) -> Any:
        return payload


class TestTiersThatFail:
    async def test_without_any_tier_everything_is_embedded(self, face: Face) -> None:
        cache = TieredCache(
            f"redis://127.0.0.1:{free_port()}/0", f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none"
        )
        model = CountingEmbeddings()
        embedder = CachedEmbeddings(model, cache)
        for n in range(1, 3):
            assert await face.documents(embedder, ["a", "b", "a"]) == [rounded(thirds(text)) for text in "aba"]
            assert await face.query(embedder, "a") == [-number for number in rounded(thirds("a"))]
            assert (len(model.documents), len(model.queries)) == (2 * n, n)
        await embedder.aclear()
        await embedder.adelete(["a"])
        assert cache.stats().adapter_errors >= 5
        await cache.aclose()

    async def test_a_write_that_fails_costs_nothing(self, sqlite_url: str, face: Face) -> None:
        store = FaultyStore(SqlStore(sqlite_url))
        cache, model = TieredCache("memory://", store), CountingEmbeddings()
        embedder = CachedEmbeddings(model, cache)
        store.fail("write")
        assert await face.documents(embedder, ["a"]) == [rounded(thirds("a"))]
        assert cache.stats().adapter_errors == 1
        store.fail("write")
        assert await face.query(embedder, "a") == [-n for n in rounded(thirds("a"))]
        assert await face.documents(embedder, ["a"]) == [rounded(thirds("a"))]
        assert (model.documents, model.queries) == (["a", "a"], ["a"])
        await cache.aclose()

    async def test_what_the_front_holds_is_found_while_the_store_is_away(self, sqlite_url: str, face: Face) -> None:
        store = FaultyStore(SqlStore(sqlite_url))
        cache, model = TieredCache("memory://", store), CountingEmbeddings()
        embedder = CachedEmbeddings(model, cache)
        await face.documents(embedder, ["a", "b"])
        store.fail("read")
        assert await face.documents(embedder, ["a", "c", "b"]) == [rounded(thirds(text)) for text in "acb"]
        assert model.batches == [["a", "b"], ["c"]]
        assert cache.stats().adapter_errors == 1
        await cache.aclose()

    async def test_a_part_that_needs_the_store_does_not_keep_the_others_from_the_front(
        self, sqlite_url: str, face: Face
    ) -> None:
        store = FaultyStore(SqlStore(sqlite_url))
        cache, model = TieredCache("memory://", store), CountingEmbeddings()
        embedder = CachedEmbeddings(model, cache)
        texts = [str(n) for n in range(100)]
        await face.documents(embedder, texts)
        store.down = True
        asked = ["new", *texts]
        assert await face.documents(embedder, asked) == [rounded(thirds(text)) for text in asked]
        assert model.batches == [texts, ["new"]]
        assert cache.stats().adapter_errors == 2  # one part of the reading, and the writing
        await cache.aclose()

    @pytest.mark.parametrize("symmetric", [False, True])
    async def test_what_is_forgotten_is_deleted_once_wherever_it_is(self, sqlite_url: str, symmetric: bool) -> None:
        store = FaultyStore(SqlStore(sqlite_url))
        cache, model = TieredCache("memory://", store), CountingEmbeddings()
        embedder = CachedEmbeddings(model, cache, symmetric=symmetric)
        await embedder.aembed_documents(["a"])
        await embedder.aembed_query("a")
        await embedder.adelete(["a"])
        assert store.count("delete") == (1 if symmetric else 2)
        await embedder.aembed_query("a")
        await embedder.aembed_documents(["a"])
        assert len(model.documents) + len(model.queries) == (2 if symmetric else 4)
        await cache.aclose()
