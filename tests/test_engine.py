"""Every verb, over every pair of tiers; and embedded, on every event loop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, Final

import anyio
import pytest

from tests.processes import UNHURRIED
from tests.worlds import World
from tiered_cache import MISSING, ConfigurationError, Namespace, Step, TieredCache, UnsupportedValueError
from tiered_cache._rule import SETTLE_WRITE

NASTY: Final = [
    *("", " ", ":", ",", "/", "|", "*", "?", "[", "[a-z]", "\\", "\0", "a\0b", "\n", "%s", "{0}", "'; --", "None", "0"),
    *("A", "a", "a:b", "\u00e9", "e\u0301", "\U0001d54f", "\udcff", "\ud83d\ude00", "\U0001f600", "long" * 250_000),
    *(b"", b"\0", b"a", b"\xff\xfe", b"a:b"),
]
PATHS: Final = [
    *((), ("",), ("", ""), ("a",), ("a", "b"), ("ab",), ("a:b",), ("a/b",), ("a,b",), ("a", "b", ""), ("\0",)),
    *(("a\0b",), ("*",), ("\udcff",), ("e\u0301",), ("\u00e9",), ("x" * 10_000,), tuple("deeply nested")),
]
VALUES: Final = [
    *(None, True, False, 0, 1, -1, 2**80, 0.0, -0.0, 1.5, math.inf, "", "text", "\udcff", "\0", b"", b"\0\xff", b"123"),
    *([], (), {}, [1, [2, (3,)]], (1, [2], {"a": (None,)}), {"a": 1, "b": {"c": b"d"}}, {1: "a", (2,): b"b", None: 1}),
]


class Verbs:
    """The suite. A class below says over which tiers, and on which loops, it runs."""

    async def test_what_was_set_is_found_and_what_was_not_is_the_default(self, cache: TieredCache) -> None:
        space = cache.namespace("n")
        await space.set("k", {"a": 42})
        assert await space.get("k") == {"a": 42}
        assert await space.get("absent") is None
        assert await space.get("absent", "default") == "default"

    async def test_a_stored_none_is_a_hit(self, cache: TieredCache) -> None:
        await cache.set("k", None)
        assert await cache.get("k", MISSING) is None
        assert await cache.get_many(["k", "absent"]) == {"k": None}
        assert await cache.get("absent", MISSING) is MISSING

    async def test_values_come_out_of_either_tier_with_their_types(self, cache: TieredCache) -> None:
        items = {str(i): value for i, value in enumerate(VALUES)}
        await cache.set_many(items)
        from_front = await cache.get_many(items)
        await forget(cache, "", *items)
        from_store = await cache.get_many(items)
        stats = cache.stats()
        assert (stats.hits_front, stats.hits_store) == (len(items), len(items))
        for found in (from_front, from_store):
            assert [(type(v), repr(v)) for v in found.values()] == [(type(v), repr(v)) for v in VALUES]

    async def test_changing_a_hit_or_the_value_that_was_set_changes_no_later_hit(self, cache: TieredCache) -> None:
        value = {"a": [1]}
        await cache.set("k", value)
        value["a"].append(2)
        for _ in range(2):
            hit = await cache.get("k")
            assert hit == {"a": [1]}
            hit["a"].append(3)
        (one, other) = [(await cache.get_many(["k"]))["k"] for _ in range(2)]
        assert one == other
        assert one["a"] is not other["a"]

    async def test_no_two_keys_and_no_two_namespaces_ever_meet(self, cache: TieredCache) -> None:
        for path in PATHS:
            await cache.namespace(*path).set_many({key: [list(path), key] for key in NASTY})
        for path in PATHS:
            found = await cache.namespace(*path).get_many(NASTY)
            assert found == {key: [list(path), key] for key in NASTY}
        first = cache.namespace(*PATHS[0])
        await first.delete_many(NASTY)
        assert await first.get_many(NASTY) == {}
        for path in PATHS[1:]:
            assert len(await cache.namespace(*path).get_many(NASTY)) == len(NASTY)

    async def test_get_many_returns_what_was_found_under_the_keys_that_were_asked(self, cache: TieredCache) -> None:
        await cache.set_many({"a": 1, b"a": 2, "b": 3})
        assert await cache.get_many(["b", "x", "a", "a"]) == {"b": 3, "a": 1}
        assert list(await cache.get_many(["b", "a"])) == ["b", "a"]
        assert await cache.get_many(key for key in (b"a", b"b")) == {b"a": 2}
        assert await cache.get_many([]) == {}

    async def test_what_is_not_for_the_front_is_found_in_the_store(self, cache: TieredCache) -> None:
        await cache.set_many({"a": 0, "b": 0})
        assert await cache.get_many(["a", "b"]) == {"a": 0, "b": 0}
        hidden = cache.view.change("a", 1, None)._replace(in_front=False)
        await cache.view.shared.write([hidden, cache.view.change("b", 1, None)])
        assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 1}
        assert (cache.stats().hits_front, cache.stats().hits_store) == (3, 1)

    async def test_nothing_to_do_is_no_error(self, cache: TieredCache) -> None:
        await cache.set_many({})
        await cache.delete_many([])
        await cache.delete("absent")
        await cache.delete_many(["absent", "absent"])
        await cache.namespace("absent").clear()

    async def test_the_last_of_several_changes_counts(self, cache: TieredCache) -> None:
        for value in range(5):
            await cache.set("k", value)
            assert await cache.get("k") == value
        await cache.delete("k")
        assert await cache.get("k") is None
        await cache.set("k", "again")
        assert await cache.get("k") == "again"

    async def test_a_value_that_cannot_be_carried_is_named_and_nothing_of_its_batch_is_written(
        self, cache: TieredCache
    ) -> None:
        await cache.set("a", "old")
        unsupported = {"secret": {1, 2}}
        key = "prompt " + "x" * 500
        with pytest.raises(UnsupportedValueError) as caught:
            await cache.set_many({"a": "new", key: unsupported, "c": 1})
        assert "set" in str(caught.value)
        assert key[:40] in str(caught.value)
        assert len(str(caught.value)) < 300
        assert "secret" not in str(caught.value)
        assert await cache.get_many(["a", key, "c"]) == {"a": "old"}
        assert cache.stats().sets == 1

    @pytest.mark.parametrize("ttl", [0, -1, -0.5, math.nan, math.inf, "5", True, 1e12], ids=repr)
    async def test_a_wrong_ttl_is_refused_and_nothing_is_written(self, cache: TieredCache, ttl: Any) -> None:
        with pytest.raises(ConfigurationError, match="ttl"):
            await cache.set("k", 1, ttl=ttl)
        with pytest.raises(ConfigurationError, match="ttl"):
            await cache.set_many({"k": 1}, ttl=ttl)
        with pytest.raises(ConfigurationError, match="ttl"):
            cache.namespace("n", ttl=ttl)
        assert await cache.get("k") is None

    @pytest.mark.parametrize("key", [1, None, 1.5, ("a",), bytearray(b"a")], ids=repr)
    async def test_a_key_is_text_or_bytes(self, cache: TieredCache, key: Any) -> None:
        for call in (cache.get, cache.delete):
            with pytest.raises(ConfigurationError, match="key is a str or bytes"):
                await call(key)
        for many in (cache.get_many, cache.delete_many):
            if key.__hash__ is not None:
                with pytest.raises(ConfigurationError, match="key is a str or bytes"):
                    await many(["a", key])
        if key.__hash__ is not None:
            with pytest.raises(ConfigurationError, match="key is a str or bytes"):
                await cache.set(key, 1)

    async def test_a_namespace_is_made_of_text_and_not_endless(self, cache: TieredCache) -> None:
        for segment in (1, None, b"a", ("a",)):
            with pytest.raises(ConfigurationError, match="namespace is made of str"):
                cache.namespace("a", segment)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ConfigurationError, match="at most 64 levels"):
            cache.namespace(*["a"] * 65)
        assert cache.namespace("a").namespace().namespace("b", "c").path == ("a", "b", "c")

    @pytest.mark.parametrize("cleared", [(), ("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("",), ("never", "used")])
    async def test_a_clear_ends_all_below_and_nothing_else(self, cache: TieredCache, cleared: tuple[str, ...]) -> None:
        paths: list[tuple[str, ...]] = [
            *((), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "bc"), ("ab",), ("",), ("", "a"), ("b",), ("b", "a")),
        ]
        for path in paths:
            await cache.namespace(*path).set("k", list(path))
        await cache.namespace(*cleared).clear()
        for warm in (False, True):
            for path in paths:
                expected = MISSING if path[: len(cleared)] == cleared else list(path)
                assert await cache.namespace(*path).get("k", MISSING) == expected, (path, warm)
        for path in paths:
            await cache.namespace(*path).set("k", "again")
            assert await cache.namespace(*path).get("k") == "again"

    async def test_clearing_again_and_again_keeps_what_was_set_in_between(self, cache: TieredCache) -> None:
        space = cache.namespace("a", "b")
        for clear in (space.clear, cache.namespace("a").clear, space.clear, cache.clear):
            await space.set("k", 1)
            assert await space.get("k") == 1
            await clear()
            assert await space.get("k") is None

    async def test_erase_removes_rows_and_cells_and_says_how_many(self, cache: TieredCache) -> None:
        space = cache.namespace("a")
        await space.namespace("below").set_many({str(i): i for i in range(20)})
        await space.set("k", "secret")
        await cache.namespace("b").set("k", "kept")
        assert await space.erase() == 21
        assert await space.erase() == 0
        assert await space.get("k") is None
        for name, path in (("k", ("a",)), ("0", ("a", "below"))):
            cell = await cell_of(cache.namespace(*path), name)
            assert cell is None or b"secret" not in cell
        assert await cache.namespace("b").get("k") == "kept"

    async def test_many_writers_of_one_key_leave_one_row_that_the_front_agrees_with(self, cache: TieredCache) -> None:
        async with anyio.create_task_group() as tasks:
            for i in range(80):
                tasks.start_soon(cache.set, "k", i)
                tasks.start_soon(cache.get, "k")
        value = await cache.get("k")
        assert value in range(80)
        await forget(cache, "", "k")
        assert await cache.get("k") == value
        assert await cache.erase() == 1

    async def test_keys_are_listed_where_they_were_set_through_a_listed_view(self, cache: TieredCache) -> None:
        space = cache.namespace("n", listed=True)
        await space.set_many({f"a{i}": i for i in range(1200)})
        await space.set_many({"b": 1, b"a": 2, "": 3, "\udcff": 4})
        await cache.namespace("n").set("unlisted", 1)
        await space.namespace("below", listed=True).set("a", 1)
        numbered = [f"a{i}" for i in range(1200)]
        assert Counter(await listed(space, "a")) == Counter(numbered)
        assert Counter(await listed(space, "")) == Counter([*numbered, "b", "", "\udcff"])
        assert await listed(space, b"") == [b"a"]
        await space.clear()
        assert await listed(space, "") == []


async def listed(space: Namespace, prefix: str | bytes) -> list[str | bytes]:
    return [key async for key in space.keys(prefix)]


async def cell_of(space: Namespace, name: str) -> bytes | None:
    engine = space.view.shared.engine
    front: Any = engine.access.front._front
    prefix = await engine.access.open()
    (cell,) = await front.get([prefix + space.view.scope.key(name).digest.hex().encode()])
    return cell


async def forget(cache: TieredCache, *paths_and_names: str) -> None:
    """Has the front lose the cells of these names in the namespace of the first argument ("" for the root)."""
    path, *names = paths_and_names
    space = cache.namespace(path) if path else cache
    engine = cache.view.shared.engine
    prefix = await engine.access.open()
    front: Any = engine.access.front._front
    keys = [prefix + space.view.scope.key(name).digest.hex().encode() for name in names]
    await front.apply([Step(SETTLE_WRITE, key) for key in keys], bytes(16), 1000)


class TestOverEveryWorld(Verbs):
    @pytest.fixture
    async def cache(self, world: World) -> AsyncGenerator[TieredCache]:
        cache = TieredCache(world.front, world.store, **UNHURRIED)
        yield cache
        await cache.aclose()


@pytest.mark.every_backend
class TestOnEveryLoop(Verbs):
    @pytest.fixture
    async def cache(self, sqlite_url: str) -> AsyncGenerator[TieredCache]:
        cache = TieredCache("memory://", sqlite_url, **UNHURRIED)
        yield cache
        await cache.aclose()
