"""What a change reaches, and what it leaves alone."""

from __future__ import annotations

import anyio
import pytest
from langchain_core.outputs import Generation

from tests.servers import redis_admin
from tests.worlds import World
from tiered_cache import ConfigurationError, TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore

ANSWER = [Generation(text="a")]


async def test_clearing_leaves_siblings_and_namesakes_alone(cache: TieredCache) -> None:
    cleared = LangChainCache(cache, namespace="app")
    kept = [
        LangChainCache(cache),
        LangChainCache(cache, namespace="app2"),
        LangChainCache(cache, namespace="ap"),
        LangChainCache(cache, namespace=("other", "app")),
        LangChainCache(cache.namespace("app2"), namespace=()),
    ]
    inside = LangChainCache(cache, namespace=("app", "inside"))
    for each in (cleared, inside, *kept):
        await each.aupdate("q", "m", ANSWER)
    store = TieredByteStore(cache)
    await store.amset([("app", b"bytes")])
    await cache.set("app", "a plain value")
    await cache.namespace("tenant").set("q", "another plain value")

    await cleared.aclear()

    assert await cleared.alookup("q", "m") is None
    assert await inside.alookup("q", "m") is None, "what is below goes along"
    for each in kept:
        assert await each.alookup("q", "m") == ANSWER
    assert await store.amget(["app"]) == [b"bytes"]
    assert await cache.get("app") == "a plain value"
    assert await cache.namespace("tenant").get("q") == "another plain value"


@pytest.mark.parametrize("world", ["servers"], indirect=True)
async def test_clearing_leaves_other_peoples_keys_in_redis_alone(world: World, answers: LangChainCache) -> None:
    with redis_admin(world.front) as redis:
        redis.set("langchain", "not ours")
        redis.set("tiered_cache:not-ours", "either")
        await answers.aupdate("q", "m", ANSWER)
        await answers.aclear()
        answers.clear()
        assert redis.get("langchain") == b"not ours"
        assert redis.get("tiered_cache:not-ours") == b"either"


async def test_one_models_answers_can_be_cleared_alone(answers: LangChainCache) -> None:
    models = ["m", "m2", "", "m:", "M", "m" * 9000]
    for clear in (answers.aclear, None):
        for model in models:
            await answers.aupdate("q", model, ANSWER)
            await answers.aupdate("r", model, ANSWER)
        if clear is None:
            answers.clear(llm_string="m")
        else:
            await clear(llm_string="m")
        assert await answers.alookup("q", "m") is None
        assert await answers.alookup("r", "m") is None
        for model in models[1:]:
            assert await answers.alookup("q", model) == ANSWER
            assert await answers.alookup("r", model) == ANSWER


async def test_deleting_takes_one_answer(answers: LangChainCache) -> None:
    for prompt in ("q", "r"):
        for model in ("m", "n"):
            await answers.aupdate(prompt, model, ANSWER)
    await answers.adelete("q", "m")
    answers.delete("r", "n")
    answers.delete("never", "stored")
    assert [answers.lookup(p, m) for p in ("q", "r") for m in ("m", "n")] == [None, ANSWER, ANSWER, None]


async def test_two_caches_on_the_same_tiers_see_each_others_changes(world: World, cache: TieredCache) -> None:
    here = LangChainCache(cache)
    other = TieredCache(world.other_front(), world.store)
    there = LangChainCache(other)
    await here.aupdate("q", "m", ANSWER)
    assert await there.alookup("q", "m") == ANSWER
    await there.aupdate("q", "m", [Generation(text="newer")])
    assert await here.alookup("q", "m") == [Generation(text="newer")]
    await here.aclear(llm_string="m")
    assert await there.alookup("q", "m") is None
    await other.aclose()


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestOneWorldIsEnough:
    async def test_tenants_share_nothing(self, cache: TieredCache) -> None:
        first, second = LangChainCache(cache.namespace("tenant-1")), LangChainCache(cache.namespace("tenant-2"))
        await first.aupdate("q", "m", ANSWER)
        assert await second.alookup("q", "m") is None
        await cache.namespace("tenant-1").clear()
        assert await first.alookup("q", "m") is None

    @pytest.mark.parametrize("wanted", [{"llm": "m"}, {"llm_string": None}, {"llm_string": 1}, {"asynchronous": True}])
    async def test_a_misspelt_clear_is_an_error_and_clears_nothing(
        self, answers: LangChainCache, wanted: dict[str, object]
    ) -> None:
        await answers.aupdate("q", "m", ANSWER)
        with pytest.raises(ConfigurationError):
            await answers.aclear(**wanted)
        with pytest.raises(ConfigurationError):
            answers.clear(**wanted)
        assert await answers.alookup("q", "m") == ANSWER

    async def test_answers_expire_after_the_adapters_ttl(self, cache: TieredCache) -> None:
        short, long = LangChainCache(cache, ttl=0.05), LangChainCache(cache, ttl=3600, namespace="long")
        for each in (short, long):
            await each.aupdate("q", "m", ANSWER)
        with anyio.fail_after(10):
            while await short.alookup("q", "m") is not None:  # noqa: ASYNC110  (the clock is the database's)
                await anyio.sleep(0.01)
        assert await long.alookup("q", "m") == ANSWER

    async def test_without_a_ttl_of_its_own_the_adapter_has_that_of_its_namespace(self, cache: TieredCache) -> None:
        answers = LangChainCache(cache.namespace("brief", ttl=0.05))
        store = TieredByteStore(cache.namespace("brief", ttl=0.05))
        await answers.aupdate("q", "m", ANSWER)
        await store.amset([("a", b"1")])
        with anyio.fail_after(10):
            while await answers.alookup("q", "m") or await store.amget(["a"]) != [None]:  # noqa: ASYNC110  (the same)
                await anyio.sleep(0.01)
        assert list(store.yield_keys()) == []
