"""What LangGraph's BaseCache promises, over all tiers, synchronously and asynchronously."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import anyio
import pytest
from langgraph.cache.base import FullKey

from tests.worlds import World
from tiered_cache import ConfigurationError, TieredCache
from tiered_cache.langgraph import LangGraphCache

Path = tuple[str, ...]

# Every pair of these is one to some cache that joins, sniffs or matches by pattern.
NASTY: list[Path] = [
    (),
    ("",),
    ("", ""),
    ("a",),
    ("a", ""),
    ("", "a"),
    ("a", "b"),
    ("a:b",),
    ("a,b",),
    ("a/b",),
    ("a|b",),
    ("1:a",),
    ("a1:b",),
    ("a", "b", "c"),
    ("a,b", "c"),
    ("a", "b,c"),
    ("?",),
    ("*",),
    ("[ab]",),
    ("a*",),
    ("a\0b",),
    ("\ud800",),
    ("\ud801",),
    ("__pregel_ns_writes", "__dynamic__", "node, with: commas/and?stars*"),
]


class Faces(NamedTuple):
    """The same verbs for one test body: a LangGraph cache by its asynchronous or its synchronous methods."""

    cache: LangGraphCache[Any]
    asynchronous: bool

    async def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        return await self.cache.aget(keys) if self.asynchronous else self.cache.get(keys)

    async def set(self, pairs: Mapping[FullKey, tuple[Any, Any]]) -> None:
        await self.cache.aset(pairs) if self.asynchronous else self.cache.set(pairs)

    async def clear(self, namespaces: Sequence[Path] | None = None) -> None:
        await self.cache.aclear(namespaces) if self.asynchronous else self.cache.clear(namespaces)


@pytest.fixture(params=["asynchronous", "synchronous on a running loop"])
def faces(request: pytest.FixtureRequest, results: LangGraphCache[Any]) -> Faces:
    return Faces(results, request.param == "asynchronous")


def key(path: Path, name: str = "k") -> FullKey:
    return (path, name)


async def test_what_was_set_is_found_and_nothing_else(faces: Faces) -> None:
    assert await faces.get([key(("a",))]) == {}
    await faces.set({key(("a",)): ("1", None), key(("b",)): (None, None)})
    asked = [key(("a",)), key(("b",)), key(("a",), "other"), key(("a",))]
    assert await faces.get(asked) == {key(("a",)): "1", key(("b",)): None}
    assert await faces.get([]) == {}


async def test_writes_of_a_task_come_out_equal_and_as_new_objects(faces: Faces) -> None:
    writes: deque[Any] = deque(
        [("messages", ["x"]), ("point", (1, (2.5, None))), ("__return__", {"a": b"\0", 1: True})]
    )
    await faces.set({key(("n",)): (writes, None)})
    first: Any
    first, second = [(await faces.get([key(("n",))]))[key(("n",))] for _ in range(2)]
    assert first == second == writes
    assert type(first) is type(writes)
    assert type(first[1][1][1]) is tuple
    first[0][1].append("changed by the caller")
    assert second == writes
    assert await faces.get([key(("n",))]) == {key(("n",)): writes}


async def test_the_returned_keys_are_the_very_keys_that_were_asked(faces: Faces) -> None:
    await faces.set({key(path): (repr(path), None) for path in NASTY})
    asked = [key(path) for path in NASTY]
    found = await faces.get(asked)
    assert {id(k) for k in found} == {id(k) for k in asked}
    assert all(found[k] == repr(k[0]) for k in asked)


async def test_clearing_a_namespace_is_exact(faces: Faces) -> None:
    everything = {key(path): (repr(path), None) for path in NASTY}
    await faces.set(everything)
    left = dict(everything)
    for path in NASTY:
        await faces.clear([path])
        del left[key(path)]
        assert set(await faces.get(list(everything))) == set(left)


async def test_clearing_several_none_or_all(faces: Faces, cache: TieredCache) -> None:
    everything = {key(path, str(n)): (n, None) for path in [("t1",), ("t1", "sub"), ("t10",), ()] for n in range(2)}
    await faces.set(everything)
    await cache.namespace("another").set("k", "untouched")
    await faces.clear([])
    assert len(await faces.get(list(everything))) == 8
    await faces.clear([("t1",), ("t10",), ("t1",), ("never used",)])
    assert {path for path, _ in await faces.get(list(everything))} == {("t1", "sub"), ()}
    await faces.clear(None)
    assert await faces.get(list(everything)) == {}
    assert await cache.namespace("another").get("k") == "untouched"


async def test_what_is_set_after_a_clear_stays(faces: Faces) -> None:
    await faces.set({key(("n",)): ("old", None)})
    await faces.clear([("n",)])
    await faces.set({key(("n",)): ("new", None)})
    assert await faces.get([key(("n",))]) == {key(("n",)): "new"}


NO_RESULTS: list[Any] = [
    deque(),
    deque([("__error__", "it failed")]),
    deque([("xs", 1), ("__interrupt__", ())]),
    deque([("__resume__", [1])]),
]


@pytest.mark.parametrize("writes", NO_RESULTS, ids=repr)
async def test_what_a_failed_or_interrupted_task_wrote_is_no_result(
    faces: Faces, cache: TieredCache, writes: Any
) -> None:
    await faces.set({key(("n",)): (writes, None), key(("m",)): (deque([("xs", 1), ("__resume__", [1])]), None)})
    found = await faces.get([key(("n",)), key(("m",))])
    assert found == {key(("m",)): deque([("xs", 1), ("__resume__", [1])])}
    assert cache.stats().unsupported == cache.stats().adapter_errors == 0


@pytest.mark.parametrize("ttl", [0, -1, -0.5, 0.0, float("-inf")])
async def test_a_ttl_that_is_over_expires_what_was_there_at_once(faces: Faces, ttl: float) -> None:
    await faces.set({key(("n",)): ("there before", None)})
    await faces.set({key(("n",)): ("never there", ttl), key(("m",)): ("kept", None)})
    assert await faces.get([key(("n",)), key(("m",))]) == {key(("m",)): "kept"}


@pytest.mark.parametrize("ttl", [None, 1, 3600, 3600.5, 10**9])
async def test_a_ttl_that_is_not_over_keeps_it(faces: Faces, ttl: float | None) -> None:
    await faces.set({key(("n",)): ("kept", ttl)})
    assert await faces.get([key(("n",))]) == {key(("n",)): "kept"}


async def test_each_pair_has_a_ttl_of_its_own(faces: Faces) -> None:
    await faces.set(
        {key(("n",), "short"): ("s", 0.05), key(("n",), "long"): ("l", 60), key(("n",), "ever"): ("e", None)}
    )
    asked = [key(("n",), name) for name in ("short", "long", "ever")]
    with anyio.fail_after(10):
        while key(("n",), "short") in (found := await faces.get(asked)):  # noqa: ASYNC110  (the store's clock)
            await anyio.sleep(0.01)
    assert found == {key(("n",), "long"): "l", key(("n",), "ever"): "e"}


async def test_none_means_never_whatever_the_ttl_of_the_cache(world: World) -> None:
    cache = TieredCache(world.front, world.store, ttl=0.05)
    results: LangGraphCache[str] = LangGraphCache(cache)
    await results.aset({key(("n",)): ("kept", None)})
    await cache.set("measure", 1)
    with anyio.fail_after(10):
        while await cache.get("measure") is not None:  # noqa: ASYNC110  (the store's clock)
            await anyio.sleep(0.01)
    assert await results.aget([key(("n",))]) == {key(("n",)): "kept"}
    await cache.aclose()


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), "60", True, False, 1e300, [60]])
async def test_an_odd_ttl_fails_nothing_and_is_counted(faces: Faces, cache: TieredCache, ttl: Any) -> None:
    await faces.set({key(("n",)): ("older", None)})
    await faces.set({key(("n",)): ("odd", ttl), key(("m",)): ("stored", None)})
    assert await faces.get([key(("n",)), key(("m",))]) == {key(("m",)): "stored"}
    assert cache.stats().adapter_errors == 1


async def test_a_whole_batch_of_several_namespaces_takes_one_exchange_each_way(
    faces: Faces, cache: TieredCache
) -> None:
    pairs = {key((f"n{n}",)): (n, 60 + n) for n in range(20)}
    await faces.set(pairs)
    latency = cache.stats().latency
    assert latency["store_write"].count == 1
    assert await faces.get(list(pairs)) == {k: value for k, (value, _) in pairs.items()}
    assert cache.stats().latency["front_read"].count == 1


async def test_two_adapters_share_nothing_unless_they_share_a_namespace(cache: TieredCache) -> None:
    bases: list[Any] = [("langgraph",), ("langgraph", "v2"), "v2", ("tenant-1", "langgraph"), ()]
    adapters: list[LangGraphCache[Any]] = [LangGraphCache(cache, namespace=base) for base in bases]
    adapters.append(LangGraphCache(cache.namespace("tenant-2")))
    for n, adapter in enumerate(adapters):
        await adapter.aset({key(("n",)): (n, None)})
    assert [(await adapter.aget([key(("n",))]))[key(("n",))] for adapter in adapters] == list(range(6))
    await adapters[3].aclear()
    assert [len(await adapter.aget([key(("n",))])) for adapter in adapters] == [1, 1, 1, 0, 1, 1]
    same: LangGraphCache[Any] = LangGraphCache(cache)
    assert await same.aget([key(("n",))]) == {key(("n",)): 0}


async def test_another_version_finds_nothing_and_ends_nothing(cache: TieredCache) -> None:
    versions = [None, "1", "2", "1:n", "\0", "n"]
    adapters: list[LangGraphCache[Any]] = [LangGraphCache(cache, version=version) for version in versions]
    everything = [key(()), key(("n",)), key(("version=1",))]
    for adapter, version in zip(adapters, versions, strict=True):
        assert await adapter.aget(everything) == {}
        await adapter.aset(dict.fromkeys(everything, (version, None)))
    for adapter, version in zip(adapters, versions, strict=True):
        assert await adapter.aget(everything) == dict.fromkeys(everything, version)
    await adapters[0].aclear([(), ("n",), ("version=1",)])
    await adapters[1].aclear()
    found = [len(await adapter.aget(everything)) for adapter in adapters]
    assert found == [0, 0, 3, 3, 3, 3]
    again: LangGraphCache[Any] = LangGraphCache(cache, version="2")
    assert await again.aget(everything) == dict.fromkeys(everything, "2")


async def test_clearing_without_a_version_ends_all_versions(cache: TieredCache) -> None:
    adapters: list[LangGraphCache[Any]] = [LangGraphCache(cache, version=version) for version in ("1", "2", None)]
    for adapter in adapters:
        await adapter.aset({key(("n",)): (1, None)})
    await adapters[-1].aclear()
    assert [await adapter.aget([key(("n",))]) for adapter in adapters] == [{}] * 3


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
@pytest.mark.parametrize("version", ["", 2, ("2",)])
def test_a_version_is_a_name(cache: TieredCache, version: Any) -> None:
    with pytest.raises(ConfigurationError, match="version is a str that names a deployment"):
        LangGraphCache(cache, version=version)


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
def test_a_wrong_argument_is_an_error(cache: TieredCache, results: LangGraphCache[Any]) -> None:
    with pytest.raises(ConfigurationError, match="TieredCache or one of its namespaces"):
        LangGraphCache("redis://localhost")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="tuple of str"):
        results.get([((1,), "k")])  # pyright: ignore[reportArgumentType]


def test_no_two_namespaces_share_a_segment() -> None:
    from tiered_cache.langgraph._adapter import _segment

    assert all(_segment(a) != _segment(b) for a, b in combinations(NASTY, 2))
