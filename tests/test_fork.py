"""After a fork, parent and child each go on with connections, locks and counts of their own."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable

import pytest

from tests.servers import left_open
from tests.worlds import World
from tiered_cache import TieredCache

pytestmark = pytest.mark.filterwarnings(  # it is just such processes that are forked here
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
)

CHILD_SECONDS = 30


def in_a_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child, and fails where the child does, or hangs."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()  # captured with the test's own output
            raise
        finally:
            os._exit(code)  # not pytest's own end
    timer = threading.Timer(CHILD_SECONDS, os.kill, (pid, 9))
    timer.start()
    _, status = os.waitpid(pid, 0)
    timer.cancel()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def cache(world: World) -> TieredCache:
    return TieredCache(world.front, world.store, front_timeout=5)


@pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)
def test_a_child_forked_while_all_is_in_use_reads_and_writes(world: World, cache: TieredCache) -> None:
    space = cache.namespace("fork")

    def child() -> None:
        assert cache.stats().sets == 0
        assert space.sync.get("parent") == "p"
        space.sync.set("child", "c")

        async def again() -> None:
            assert await space.get("child") == "c"
            await space.set("child", "cc")

        asyncio.run(again())
        assert cache.stats().sets == 2
        cache.close()

    async def main() -> None:
        await space.set("parent", "p")
        space.sync.set("portal", "running")
        await asyncio.to_thread(in_a_child, child)
        # The parent's connections were neither used nor closed by the child.
        await space.set("parent", "pp")
        assert await space.get("parent") == "pp"
        assert await space.get("child") == "cc"
        assert space.sync.get("portal") == "running"

    asyncio.run(main())
    cache.close()
    if world.name == "servers":
        assert left_open(world.front) == 0
        assert left_open(world.store) == 0


# Not over SQLite: where a thread of the parent is inside the library at the moment of the fork, the child inherits a
# mutex of that file that nobody will ever release.
@pytest.mark.parametrize("world", ["servers"], indirect=True)
def test_children_forked_in_the_midst_of_traffic_never_hang(world: World, cache: TieredCache) -> None:
    space = cache.namespace("traffic").sync
    stop = threading.Event()

    def traffic(number: int) -> None:
        while not stop.is_set():
            space.set(f"k{number}", number)
            space.get(f"k{number}")

    def child() -> None:
        space.set("child", os.getpid())
        assert space.get("child") == os.getpid()

    threads = [threading.Thread(target=traffic, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            in_a_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    cache.close()
