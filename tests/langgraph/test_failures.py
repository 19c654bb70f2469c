"""A cache never fails a run: whatever breaks, the nodes run, and it is counted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, cast

import fakeredis
import pytest
import redis.asyncio
from langchain_core.messages import AIMessage
from langgraph.cache.base import FullKey
from langgraph.func import entrypoint, task
from langgraph.types import CachePolicy

from tests.langgraph.graphs import TwoNodes
from tests.servers import PostgresServer, RedisServer
from tests.worlds import World
from tiered_cache import RawCodec, StoreUnavailableError, TieredCache, _guard
from tiered_cache._sql import SqlStore
from tiered_cache.langgraph import LangGraphCache
from tiered_cache.langgraph._adapter import _segment
from tiered_cache.langgraph._codec import LangGraphCodec, StrictSerializer

NOWHERE = "redis://127.0.0.1:1/0"
KEY: FullKey = (("n",), "k")


class Unreliable:
    """A store that answers, or does not."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.up = True

    def __getattr__(self, verb: str) -> Any:
        if not self.up and verb not in ("aclose", "ddl"):
            return self._refuse
        return getattr(self._store, verb)

    async def _refuse(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("out to lunch")


class Tiers:
    """A cache whose store can go away."""

    def __init__(self, front: Any, sqlite_url: str) -> None:
        self.store: Any = Unreliable(SqlStore(sqlite_url))
        self.cache = TieredCache(front, self.store)
        self.results: LangGraphCache[Any] = LangGraphCache(self.cache)


@pytest.fixture(params=["memory", "fakeredis", "nowhere"])
async def tiers(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncGenerator[Tiers]:
    fronts: dict[str, Any] = {"memory": "memory://", "fakeredis": fakeredis.FakeAsyncRedis(), "nowhere": NOWHERE}
    tiers = Tiers(fronts[request.param], sqlite_url)
    yield tiers
    await tiers.cache.aclose()


async def test_a_store_that_goes_away_fails_no_run_and_its_return_is_noticed(tiers: Tiers) -> None:
    two = TwoNodes(tiers.results)
    tiers.store.up = False
    for _ in range(2):
        assert (await two.graph.ainvoke({"question": "q"}))["answer"] == "answer to q"
        assert two.graph.invoke({"question": "q"})["answer"] == "answer to q"
    await two.graph.aclear_cache()
    two.graph.clear_cache()
    assert two.total == 8
    assert tiers.cache.stats().adapter_errors > 0
    tiers.store.up = True
    for _ in range(2):
        await two.graph.ainvoke({"question": "q"})
    assert two.total == 10


@pytest.mark.parametrize("tiers", ["memory", "fakeredis"], indirect=True)
async def test_what_the_front_holds_is_found_while_the_store_is_away(tiers: Tiers) -> None:
    here, gone = [(("n",), "k"), (("m",), "k")], (("m",), "never set")
    await tiers.results.aset({key: (key[0][0], None) for key in here})
    await tiers.results.aget(here)
    tiers.store.up = False
    assert await tiers.results.aget([gone, *here]) == {key: key[0][0] for key in here}
    assert tiers.cache.stats().adapter_errors == 1


async def test_an_outage_is_logged_once_per_change(
    tiers: Tiers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guard, "STEADY_SECONDS", 0)
    caplog.set_level(logging.INFO, "tiered_cache")
    await tiers.results.aset({KEY: (1, None)})
    caplog.clear()
    tiers.store.up = False
    for _ in range(5):
        await tiers.results.aget([(("n",), "absent")])
        await tiers.results.aset({KEY: ("a secret value", None)})
    tiers.store.up = True
    for _ in range(5):
        await tiers.results.aget([(("n",), "absent")])
    lines = [record.getMessage() for record in caplog.records if "LangGraphCache" in record.getMessage()]
    assert len(lines) == 2
    assert "secret" not in caplog.text


async def test_a_killed_front_and_a_killed_store_fail_no_run(
    spare_redis: RedisServer, spare_postgres: PostgresServer, spare_postgres_url: str
) -> None:
    cache = TieredCache(spare_redis.url, spare_postgres_url, store_timeout=2.0)
    two = TwoNodes(LangGraphCache(cache))
    await two.graph.ainvoke({"question": "q"})
    spare_redis.kill()
    assert (await two.graph.ainvoke({"question": "q"}))["answer"] == "answer to q"
    assert two.total == 2
    spare_postgres.kill()
    assert (await two.graph.ainvoke({"question": "q"}))["answer"] == "answer to q"
    assert two.total == 4
    assert cache.stats().adapter_errors > 0
    spare_postgres.start()
    assert (await two.graph.ainvoke({"question": "q"}))["answer"] == "answer to q"
    assert two.total == 4
    await cache.aclose()


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestValuesAndPayloads:
    async def test_a_node_output_that_cannot_be_stored_fails_no_run(
        self, cache: TieredCache, results: LangGraphCache[Any]
    ) -> None:
        two = TwoNodes(results, output=lambda _: object())
        for graph_call in (two.graph.invoke, two.graph.invoke):
            assert type(graph_call({"question": "q"})["answer"]) is object
        assert type((await two.graph.ainvoke({"question": "q"}))["answer"]) is object
        assert dict(two.runs) == {"classify": 1, "answer": 3}
        assert cache.stats().unsupported == 3
        assert cache.stats().adapter_errors == 0

    async def test_a_task_output_that_cannot_be_stored_fails_no_run(
        self, cache: TieredCache, results: LangGraphCache[Any]
    ) -> None:
        runs: list[int] = []

        @task(cache_policy=CachePolicy())
        def make(n: int) -> object:
            runs.append(n)
            return object() if n % 2 else n

        @entrypoint(cache=results)
        def workflow(numbers: list[int]) -> list[str]:
            return [type(each.result()).__name__ for each in [make(n) for n in numbers]]

        flow = cast("Any", workflow)
        assert flow.invoke([1, 2, 3]) == ["object", "int", "object"]
        assert await flow.ainvoke([1, 2, 3]) == ["object", "int", "object"]
        assert sorted(runs) == [1, 1, 2, 3, 3]
        assert cache.stats().unsupported == 4
        assert cache.stats().adapter_errors == 0

    async def test_the_others_of_a_batch_are_stored(self, cache: TieredCache, results: LangGraphCache[Any]) -> None:
        keys = [(("n",), name) for name in ("good", "bad", "fine")]
        await results.aset(dict.fromkeys(keys, ("older", None)))
        values: list[Any] = [1, object(), 2]
        await results.aset({key: (value, None) for key, value in zip(keys, values, strict=True)})
        # Not the older value either: somebody was told that it was replaced.
        assert await results.aget(keys) == {keys[0]: 1, keys[2]: 2}
        assert cache.stats().unsupported == 1

    @pytest.mark.parametrize("payload", [b"", b"\0", b"junk", b"\x07msgpack" + bytes(8) + b"\xc1", b"\xff" * 300])
    async def test_a_payload_that_cannot_be_read_is_a_counted_miss(
        self, cache: TieredCache, results: LangGraphCache[Any], payload: bytes
    ) -> None:
        class Bytes(RawCodec):
            id: Any = 3

        await results.aset({(("n",), "good"): (1, None)})
        await cache.namespace("langgraph", _segment(("n",)), codec=Bytes()).set("k", payload)
        assert await results.aget([KEY, (("n",), "good")]) == {(("n",), "good"): 1}
        assert cache.stats().corrupt == 1

    async def test_a_message_of_a_later_release_is_a_counted_miss(
        self, cache: TieredCache, results: LangGraphCache[Any]
    ) -> None:
        class Later(LangGraphCodec):
            def encode(self, value: Any) -> bytes:
                return super().encode(value).replace(b"AIMessage", b"XYMessage")

        later = cache.namespace("langgraph", _segment(("n",)), codec=Later(StrictSerializer()))
        await later.set("k", {"messages": [AIMessage("x")]})
        assert await results.aget([KEY]) == {}
        assert (cache.stats().corrupt, cache.stats().adapter_errors) == (1, 0)

    async def test_what_another_serializer_wrote_is_a_miss_or_its_value(
        self, cache: TieredCache, results: LangGraphCache[Any]
    ) -> None:
        class Reversed:
            def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
                return "reversed", repr(obj).encode()[::-1]

            def loads_typed(self, data: tuple[str, bytes]) -> Any:
                assert data[0] == "reversed"
                return eval(data[1][::-1], {})

        others: LangGraphCache[Any] = LangGraphCache(cache, serde=Reversed())
        await others.aset({KEY: (deque([("x", (1, 2))]), None)})
        assert await others.aget([KEY]) == {KEY: deque([("x", (1, 2))])}
        assert await results.aget([KEY]) == {}
        await results.aset({KEY: ("mine", None)})
        assert await others.aget([KEY]) == {}
        assert cache.stats().corrupt == 2

    async def test_a_serializer_that_raises_anything_fails_nothing(self, cache: TieredCache) -> None:
        class Broken:
            def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
                raise ZeroDivisionError

            def loads_typed(self, data: tuple[str, bytes]) -> Any:
                raise ZeroDivisionError

        broken: LangGraphCache[Any] = LangGraphCache(cache, serde=Broken())
        await broken.aset({KEY: (1, None)})
        await LangGraphCache[Any](cache).aset({KEY: (1, None)})
        assert await broken.aget([KEY]) == {}
        assert (cache.stats().unsupported, cache.stats().corrupt) == (1, 1)


@pytest.mark.parametrize("world", ["servers"], indirect=True)
async def test_a_ready_made_client_that_decodes_responses_hits(world: World) -> None:
    library: Any = redis.asyncio
    client = library.Redis.from_url(world.front, decode_responses=True)
    cache = TieredCache(client, world.store)
    two = TwoNodes(LangGraphCache(cache))
    for _ in range(2):
        await two.graph.ainvoke({"question": "q"})
    assert two.total == 2
    stats = cache.stats()
    assert (stats.hits_front, stats.corrupt, stats.front_errors) == (2, 0, 0)
    await cache.aclose()
    await client.aclose()
