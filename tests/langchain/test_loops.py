"""One object, made anywhere, used from any event loop and any thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from langchain_core.outputs import Generation

from tests.langchain.models import CountingChat
from tests.scripts import assert_ends_without_a_word
from tests.servers import left_open
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore


def test_several_event_loops_in_turn_share_the_answers(cache: TieredCache, answers: LangChainCache) -> None:
    llm = CountingChat(cache=answers)

    async def ask() -> list[str]:
        return [(await llm.ainvoke("q")).text, llm.invoke("q").text]

    for _ in range(3):
        assert asyncio.run(ask()) == ["q #1", "q #1"]
    assert (llm.calls, cache.stats().adapter_errors) == (1, 0)


def test_event_loops_in_two_threads_at_once(cache: TieredCache, answers: LangChainCache) -> None:
    both = threading.Barrier(2, timeout=30)

    async def work(name: str) -> None:
        both.wait()
        for n in range(20):
            await answers.aupdate(f"{name} {n}", "m", [Generation(text=name)])
            assert await answers.alookup(f"{name} {n}", "m") == [Generation(text=name)]

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(asyncio.run, work(name)) for name in ("left", "right")]:
            done.result(60)
    assert cache.stats().adapter_errors == 0


def test_many_threads_without_a_loop(cache: TieredCache, answers: LangChainCache, store: TieredByteStore) -> None:
    def work(n: int) -> None:
        answers.update(f"q{n}", "m", [Generation(text=str(n))])
        store.mset([(f"k{n}", bytes([n]))])
        assert answers.lookup(f"q{n}", "m") == [Generation(text=str(n))]
        assert store.mget([f"k{n}"]) == [bytes([n])]

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, range(64)))
    assert sorted(store.yield_keys()) == sorted(f"k{n}" for n in range(64))
    assert cache.stats().adapter_errors == 0


async def test_synchronous_calls_work_where_a_loop_is_running(answers: LangChainCache, store: TieredByteStore) -> None:
    llm = CountingChat(cache=answers)
    with anyio.fail_after(30):
        assert llm.invoke("q").text == (await llm.ainvoke("q")).text == llm.invoke("q").text
        store.mset([("a", b"1")])
        assert list(store.yield_keys()) == [key async for key in store.ayield_keys()] == ["a"]
        answers.clear()
        assert await answers.alookup("q", "m") is None


async def test_a_batch_of_many_questions_loses_no_hit(cache: TieredCache, answers: LangChainCache) -> None:
    llm = CountingChat(cache=answers)
    questions = [f"q{n}" for n in range(300)]
    first = await llm.abatch(list(questions))
    again = await llm.abatch(list(questions))
    assert llm.calls == 300
    assert [m.text for m in again] == [m.text for m in first]
    assert cache.stats().adapter_errors == 0


async def test_a_cancelled_caller_harms_no_other(answers: LangChainCache) -> None:
    await answers.aupdate("q", "m", [Generation(text="a")])
    found: list[object] = []

    async def ask() -> None:
        found.append(await answers.alookup("q", "m"))

    async with anyio.create_task_group() as tasks:
        for n in range(20):
            with anyio.CancelScope() as scope:
                tasks.start_soon(ask)
                if n % 2:
                    scope.cancel()
                await answers.alookup("q", "m")
    assert found == [[Generation(text="a")]] * 20


@pytest.mark.parametrize("world", ["servers"], indirect=True)
def test_loops_that_end_leave_no_connection_open(world: World, cache: TieredCache, answers: LangChainCache) -> None:
    llm = CountingChat(cache=answers)
    for _ in range(2):
        asyncio.run(llm.abatch(["a", "b", "c"]))
        llm.batch(["a", "b", "c"])
    cache.close()
    assert left_open(world.front) == left_open(world.store) == 0


def test_a_program_that_never_closes_its_cache_ends_at_once_and_without_a_word(sqlite_url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from langchain_core.outputs import Generation\n"
        "from tiered_cache import TieredCache\n"
        "from tiered_cache.langchain import LangChainCache, TieredByteStore\n"
        "cache = TieredCache('memory://', sys.argv[1])\n"
        "answers, store = LangChainCache(cache), TieredByteStore(cache)\n"
        "answers.update('q', 'm', [Generation(text='a')])\n"
        "asyncio.run(answers.alookup('q', 'm'))\n"
        "store.mset([('a', b'1'), ('b', b'2')])\n"
        "keys = store.yield_keys(); next(keys)  # left half read\n"
    )
    assert_ends_without_a_word(script, sqlite_url)
