"""One cache object, made once, serves every loop and thread, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import uvloop
from blockbuster import blockbuster_ctx

from tests.scripts import assert_ends_without_a_word
from tests.servers import left_open
from tests.worlds import World
from tiered_cache import TieredCache


def open_cache(world: World) -> TieredCache:
    return TieredCache(world.front, world.store, front_timeout=5)


def assert_nothing_open(world: World) -> None:
    if world.name == "servers":
        assert left_open(world.front) == 0
        assert left_open(world.store) == 0


async def write_and_read(cache: TieredCache, name: str) -> None:
    space = cache.namespace("loops", name)
    await space.set_many({f"k{n}": n for n in range(20)})
    assert await asyncio.gather(*(space.get(f"k{n}") for n in range(20))) == list(range(20))


def test_three_loops_in_turn(world: World) -> None:
    cache = open_cache(world)
    for turn in range(3):
        asyncio.run(write_and_read(cache, str(turn)))
    uvloop.run(write_and_read(cache, "uvloop"))
    assert_nothing_open(world)


def test_two_loops_at_once_in_two_threads(world: World) -> None:
    cache = open_cache(world)
    both = threading.Barrier(2, timeout=30)

    async def work(name: str) -> None:
        for turn in range(5):
            both.wait()
            await write_and_read(cache, f"{name}{turn}")
            assert await cache.namespace("loops").get_or_compute("shared", asyncio_answer) == "answer"

    async def asyncio_answer() -> str:
        return "answer"

    def run(name: str) -> None:
        asyncio.run(work(name))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, ("a", "b")))
    assert_nothing_open(world)


def test_synchronous_calls_in_a_running_loop_do_not_deadlock(world: World) -> None:
    cache = open_cache(world)
    space = cache.namespace("sync")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            started, finish = anyio.Event(), anyio.Event()

            async def compute() -> str:
                started.set()
                await finish.wait()
                return "asynchronous"

            tasks.start_soon(space.get_or_compute, "slow", compute)
            tasks.start_soon(write_and_read, cache, "meanwhile")
            await started.wait()
            # The very loop that the flight of this key needs is held up by this call: it must not wait for it.
            assert space.sync.get_or_compute("slow", lambda: "synchronous") == "synchronous"
            space.sync.set("k", 1)
            assert space.sync.get("k") == 1
            assert await space.get("k") == 1
            finish.set()

    asyncio.run(main())
    cache.close()
    assert_nothing_open(world)


def test_thirty_two_threads(world: World) -> None:
    cache = open_cache(world)
    space = cache.namespace("threads").sync
    together = threading.Barrier(32, timeout=60)
    computed: list[int] = []

    def compute() -> str:
        computed.append(threading.get_ident())
        return "once"

    def work(number: int) -> None:
        together.wait()
        assert space.get_or_compute("shared", compute) == "once"
        for turn in range(5):
            space.set(f"{number}-{turn}", [number, turn])
        assert space.get_many([f"{number}-{turn}" for turn in range(5)]) == {
            f"{number}-{turn}": [number, turn] for turn in range(5)
        }

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, range(32)))
    assert len(computed) == 1
    cache.close()
    assert_nothing_open(world)


def test_loops_and_threads_at_once_agree(world: World) -> None:
    cache = open_cache(world)
    space = cache.namespace("mixed")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(anyio.to_thread.run_sync, space.sync.set, f"thread{number}", number)
                tasks.start_soon(space.set, f"loop{number}", number)
        found = await space.get_many([f"{kind}{number}" for kind in ("thread", "loop") for number in range(8)])
        assert sorted(found.values()) == sorted([*range(8), *range(8)])

    asyncio.run(main())
    cache.close()
    assert_nothing_open(world)


def test_a_loop_that_is_run_by_hand(world: World) -> None:
    cache = open_cache(world)
    loop = asyncio.new_event_loop()
    for turn in range(2):
        loop.run_until_complete(write_and_read(cache, str(turn)))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert_nothing_open(world)


@pytest.mark.parametrize("world", ["servers"], indirect=True)
def test_leaving_the_block_closes_what_other_loops_opened(world: World) -> None:
    async def main() -> None:
        async with open_cache(world) as cache:
            await write_and_read(cache, "here")
            await anyio.to_thread.run_sync(cache.namespace("sync").sync.get, "k")
        assert_nothing_open(world)

    asyncio.run(main())


@pytest.mark.parametrize("world", ["servers"], indirect=True)
def test_a_burst_loses_no_hit_and_opens_no_more_connections_than_configured(world: World) -> None:
    async def main() -> None:
        async with TieredCache(world.front, world.store, front_connections=16, front_timeout=5) as cache:
            space = cache.namespace("burst")
            await space.set_many({f"k{n}": n for n in range(500)})
            found = await asyncio.gather(*(space.get(f"k{n % 500}") for n in range(10_000)))
            assert found == [n % 500 for n in range(10_000)]
            assert cache.stats().hits_front == 10_000
            assert 1 <= left_open(world.front, patience_seconds=0) <= 16

    asyncio.run(main())


SCRIPTS: dict[str, str] = {
    "asynchronous": """
async def main():
    await space.set("k", 1)
    assert await space.get("k") == 1
for _ in range(3):
    asyncio.run(main())
""",
    "synchronous": """
space.sync.set("k", 1)
assert space.sync.get("k") == 1
""",
    "both, and a clear in the background": """
async def main():
    await space.set("k", 1)
    space.sync.set("k", 2)
    assert await space.get("k") == 2
    await space.clear()
asyncio.run(main())
space.sync.set("k", 3)
space.sync.clear()
""",
    "in a block": """
async def main():
    async with cache:
        await space.set("k", 1)
        await space.clear()
asyncio.run(main())
""",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_program_ends_promptly_and_without_a_word(world: World, script: str) -> None:
    front = world.front if isinstance(world.front, str) else "memory://"
    program = f"""
import asyncio
from tiered_cache import TieredCache
cache = TieredCache({front!r}, {world.store!r}, front_timeout=5)
space = cache.namespace("program")
{script}
"""
    assert_ends_without_a_word(program)
    assert_nothing_open(world)


@pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)
async def test_the_loop_is_never_blocked(world: World) -> None:
    async with open_cache(world) as cache:
        space = cache.namespace("quick")

        async def use() -> None:
            await space.set("k", 1)
            assert await space.get("k") == 1
            assert await space.get_many(["k", "absent"]) == {"k": 1}
            await space.delete("k")
            await space.clear()

        await use()  # opening a connection looks up versions and names, once
        with blockbuster_ctx("tiered_cache"):
            await use()
