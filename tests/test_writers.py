"""A crowd of writers of one key: no error, one row, and a front that agrees with the store."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from tests.worlds import World
from tiered_cache import TieredCache

WRITERS = 80

pytestmark = pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)


async def agree(world: World) -> object:
    """What front and store say of the key, which must be the same."""
    async with TieredCache(world.front, world.store, front_timeout=10) as one:
        said = [await one.namespace("crowd").get("k") for _ in range(3)]
        world.lose_front()
        said += [await one.namespace("crowd").get("k") for _ in range(2)]
        assert len({str(each) for each in said}) == 1
        assert await one.namespace("crowd").erase() == 1
        return said[0]


async def test_eighty_tasks(world: World) -> None:
    async with TieredCache(world.front, world.store, front_timeout=10, batch_items=1, batches_in_flight=8) as cache:
        async with anyio.create_task_group() as tasks:
            for number in range(WRITERS):
                tasks.start_soon(cache.namespace("crowd").set, "k", number)
        assert cache.stats().store_errors == 0
    assert await agree(world) in range(WRITERS)


async def test_four_processes(world: World) -> None:
    program = f"""
import asyncio
from tiered_cache import MemoryFront, TieredCache
async def main():
    front = MemoryFront() if {world.name == "embedded"} else {world.front!r}
    async with TieredCache(front, {world.store!r}, front_timeout=10, store_timeout=60, mark_ttl=120) as cache:
        space = cache.namespace("crowd")
        await asyncio.gather(*(space.set("k", n) for n in range({WRITERS // 4})))
        assert cache.stats().store_errors == 0
asyncio.run(main())
"""
    async with TieredCache(world.front, world.store, front_timeout=10) as cache:
        await cache.setup()
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lambda: anyio.run_process([sys.executable, "-c", program], stderr=subprocess.STDOUT))
    world.lose_front()
    assert await agree(world) in range(WRITERS)
