"""The byte store beyond the suite that LangChain publishes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import World
from tiered_cache import ConfigurationError, TieredCache, UnsupportedValueError
from tiered_cache.langchain import TieredByteStore

KEYS = [
    "",
    " ",
    "a",
    "a:b",
    "a,b",
    "a/b",
    "a*",
    "a?",
    "a[b]",
    "a%",
    "a_",
    "\x00",
    "a\x00b",
    "é",
    "e\u0301",
    "\ud83d",
    "\U0001f600",
    "k" * 100_000,
    "'; DROP TABLE x; --",
]


async def test_any_name_keeps_its_own_value_and_is_listed(store: TieredByteStore) -> None:
    await store.amset([(key, str(n).encode()) for n, key in enumerate(KEYS)])
    assert await store.amget(KEYS) == [str(n).encode() for n in range(len(KEYS))]
    assert sorted([key async for key in store.ayield_keys()]) == sorted(KEYS)
    assert sorted(store.yield_keys()) == sorted(KEYS)


@pytest.mark.parametrize(
    "prefix", ["", "a", "a*", "a%", "a_", "a\x00", "\x00", "é", "e", "k" * 99_999, "\ud83d", "none"]
)
async def test_a_prefix_is_text_and_no_pattern(store: TieredByteStore, prefix: str) -> None:
    await store.amset([(key, b"") for key in KEYS])
    wanted = sorted(key for key in KEYS if key.startswith(prefix))
    assert sorted([key async for key in store.ayield_keys(prefix=prefix)]) == wanted
    assert sorted(store.yield_keys(prefix=prefix)) == wanted


async def test_every_byte_value_survives_in_both_tiers(world: World, store: TieredByteStore) -> None:
    values = [b"", b"\x00", bytes(range(256)), b"123", b"null", b"\x01[]", "é".encode("latin-1"), b"x" * 300_000]
    await store.amset([(str(n), value) for n, value in enumerate(values)])
    names = [str(n) for n in range(len(values))]
    assert await store.amget(names) == values
    world.lose_front()
    found = await store.amget(names)
    assert found == values
    assert {type(value) for value in found} == {bytes}


async def test_order_and_duplicates_are_those_of_the_question(store: TieredByteStore) -> None:
    await store.amset([("a", b"1"), ("b", b"2")])
    for names in (["b", "a", "b", "none", "a"], [""], [], ["none"]):
        expected = [{"a": b"1", "b": b"2"}.get(name) for name in names]
        assert await store.amget(names) == expected
        assert store.mget(names) == expected


async def test_of_pairs_with_one_name_the_last_counts(store: TieredByteStore) -> None:
    await store.amset([("a", b"1"), ("b", b"x"), ("a", b"2"), ("a", b"3")])
    assert await store.amget(["a", "b"]) == [b"3", b"x"]
    store.mset([("b", b"y"), ("b", b"z")])
    assert store.mget(["b"]) == [b"z"]


async def test_deleted_names_are_listed_no_more(store: TieredByteStore) -> None:
    await store.amset([(key, b"1") for key in "abcd"])
    await store.amdelete(["a", "a", "none"])
    store.mdelete(["b", "none"])
    assert sorted(store.yield_keys()) == ["c", "d"]
    await store.amset([("a", b"again")])
    assert sorted([key async for key in store.ayield_keys()]) == ["a", "c", "d"]
    await store.amset([])
    await store.amdelete([])


async def test_more_names_than_fit_a_page_are_all_listed_once(store: TieredByteStore) -> None:
    names = {f"k{n:04}" for n in range(1203)}
    await store.amset([(name, b"") for name in names])
    listed = list(store.yield_keys())
    assert len(listed) == len(names)
    assert set(listed) == names
    listed = [name async for name in store.ayield_keys(prefix="k0")]
    assert len(listed) == 1000


async def test_fifty_writers_of_the_same_names_harm_nobody(cache: TieredCache, store: TieredByteStore) -> None:
    names = [f"k{n}" for n in range(20)]

    async def write(n: int) -> None:
        order = names if n % 2 else names[::-1]
        await store.amset([(name, bytes([n])) for name in order])

    async with anyio.create_task_group() as tasks:
        for n in range(50):
            tasks.start_soon(write, n)
    found = await store.amget(names)
    assert all(value in {bytes([n]) for n in range(50)} for value in found)
    assert sorted(store.yield_keys()) == sorted(names)
    assert cache.stats().adapter_errors == 0


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestOneWorldIsEnough:
    @pytest.mark.parametrize("value", ["text", None, 1, bytearray(b"x"), memoryview(b"x"), [b"x"], [0.1, 0.2]])
    async def test_what_is_not_bytes_is_an_error_and_nothing_is_written(
        self, store: TieredByteStore, value: Any
    ) -> None:
        for pairs in ([("a", b"1"), ("b", value)], [("b", value), ("a", b"1")]):
            with pytest.raises(TypeError, match=r"'b'.*bytes") as caught:
                await store.amset(pairs)
            assert isinstance(caught.value, UnsupportedValueError)
            with pytest.raises(UnsupportedValueError):
                store.mset(pairs)
        assert await store.amget(["a", "b"]) == [None, None]

    @pytest.mark.parametrize("name", [b"a", None, 1, ("a",)])
    async def test_a_name_that_is_no_text_is_an_error(self, store: TieredByteStore, name: Any) -> None:
        with pytest.raises(ConfigurationError, match="str"):
            await store.amset([(name, b"1")])
        for method in (store.amget, store.amdelete):
            with pytest.raises(ConfigurationError, match="str"):
                await method([name])

    def test_an_empty_store_is_true(self, store: TieredByteStore) -> None:
        # CacheBackedEmbeddings asks `if not self.query_embedding_store:`
        assert store
        assert not hasattr(TieredByteStore, "__len__")
        assert not hasattr(TieredByteStore, "__bool__")

    async def test_two_stores_in_two_namespaces_share_nothing(self, cache: TieredCache, store: TieredByteStore) -> None:
        other = TieredByteStore(cache, namespace=("bytestore", "inside"))
        await store.amset([("a", b"1")])
        await other.amset([("b", b"2")])
        assert await store.amget(["a", "b"]) == [b"1", None]
        assert list(store.yield_keys()) == ["a"]
        assert list(other.yield_keys()) == ["b"]

    async def test_listing_can_be_left_half_way(self, store: TieredByteStore) -> None:
        await store.amset([(f"k{n}", b"") for n in range(1000)])
        keys = store.yield_keys()
        next(keys)
        keys.close()
        some = store.ayield_keys()
        await anext(some)
        await some.aclose()
        assert len(list(store.yield_keys())) == 1000

    async def test_iterables_of_any_kind_are_taken(self, store: TieredByteStore) -> None:
        await store.amset(pair for pair in [("a", b"1"), ("b", b"2")])  # pyright: ignore[reportArgumentType]
        assert await store.amget({"a": 0, "b": 0}.keys()) == [b"1", b"2"]  # pyright: ignore[reportArgumentType]
        store.mdelete(iter(["a"]))  # pyright: ignore[reportArgumentType]
        assert store.mget(("a", "b")) == [None, b"2"]


@given(st.dictionaries(st.text(st.characters(), max_size=8), st.binary(max_size=64), max_size=8), st.text(max_size=2))
def test_a_store_is_a_dict(contents: dict[str, bytes], prefix: str) -> None:
    with anyio.from_thread.start_blocking_portal() as portal:  # a loop of its own for each example
        portal.call(_check_against_a_dict, contents, prefix)


async def _check_against_a_dict(contents: dict[str, bytes], prefix: str) -> None:
    async with TieredCache("memory://", "sqlite://") as cache:
        store = TieredByteStore(cache)
        await store.amset(list(contents.items()))
        assert await store.amget(list(contents)) == list(contents.values())
        listed = [key async for key in store.ayield_keys(prefix=prefix)]
        assert sorted(listed) == sorted(key for key in contents if key.startswith(prefix))
