"""What was acknowledged outlives the process that wrote it, and the front."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.worlds import World
from tiered_cache import MISSING, MemoryFront, TieredCache

pytestmark = pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)

WRITER = """
import sys
from tiered_cache import TieredCache
space = TieredCache({front!r}, {store!r}, front_timeout=5).namespace("durable").sync
{script}
print("ok", flush=True)
sys.stdin.read()  # until it is killed
"""


def killed_after(world: World, script: str, acknowledgements: int = 1) -> list[str]:
    """Runs `script` in another process, and kills that once it has said so many things."""
    program = WRITER.format(front=world.front, store=world.store, script=script)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(acknowledgements)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().split("\n")[:-1]  # what it said before the signal came; a cut line is not said
    return said


def reader(world: World) -> TieredCache:
    """A process that comes later, with nothing in its front."""
    world.lose_front()
    front = MemoryFront() if world.name == "embedded" else world.front
    return TieredCache(front, world.store, front_timeout=5)


def test_an_entry_outlives_its_writer_and_the_front(world: World) -> None:
    assert killed_after(world, "space.set('k', 1)") == ["ok"]
    cache = reader(world)
    assert cache.namespace("durable").sync.get("k") == 1
    assert cache.stats().hits_store == 1
    cache.close()


@pytest.mark.parametrize("change", ["space.delete('k')", "space.clear()"])
def test_what_was_deleted_or_cleared_stays_so(world: World, change: str) -> None:
    assert killed_after(world, f"space.set('k', 1); {change}") == ["ok"]
    cache = reader(world)
    assert cache.namespace("durable").sync.get("k", MISSING) is MISSING
    cache.close()


def test_killed_at_any_moment_it_has_lost_nothing_that_it_acknowledged(world: World) -> None:
    script = "for n in range(100_000):\n    space.set(f'k{n}', n)\n    print(n, flush=True)"
    acknowledged = [int(said) for said in killed_after(world, script, acknowledgements=150)]
    assert len(acknowledged) >= 150
    cache = reader(world)
    expected = {f"k{number}": number for number in acknowledged}
    assert cache.namespace("durable").sync.get_many(expected) == expected
    cache.close()
