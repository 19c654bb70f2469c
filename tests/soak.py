"""Hours, or minutes, under load, while faults of both tiers come and go at random: nothing may pile up.

    python -m tests.soak --minutes 3
    python -m tests.soak --minutes 60 --seed 4711
    python -X tracemalloc -m tests.soak                 and which lines hold more memory at the end

Callers run through both adapters and on the engine, over a real Redis and a real PostgreSQL. After a first while the
process is looked at: connections, tasks, threads, file descriptors, memory, objects. At the end it is looked at again,
and all has to be where it was. Ends with status 1 where it is not, or where a caller was failed or told what is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import random
import sys
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Final

import psutil

from tests.faults.load import Call, Load
from tests.faults.place import FRONT_CONNECTIONS, STORE_CONNECTIONS, Place, Servers, open_place
from tests.faults.run import (
    LOOPS,
    RECOVERY_SECONDS,
    SHORT_FRONT_TTL,
    Listener,
    listening,
    no_task_fails_unseen,
    stale_seconds,
)
from tests.faults.table import ON_SERVERS, Fault
from tests.servers import connections, left_open
from tiered_cache import TieredCache

#: How long it runs, faults included, before it is looked at for the first time: what is made once has been made then.
WARM_UP_SECONDS: Final = 30.0
MOST_NEW_KEYS: Final = 2000

#: What may be more at the end than after the warm-up: the allocator's own affairs, and caches that were not full yet.
SPARE_BYTES: Final = 16 * 1024 * 1024
SPARE_DESCRIPTORS: Final = 4  # a connection may just be on its way through a proxy
SPARE_OBJECTS: Final = 0.05

_BUCKETS_A_SECOND: Final = 1000
_LONGEST_SECONDS: Final = 30


@dataclass
class Figures:
    """A look at the process, when all is quiet."""

    front_connections: int
    store_connections: int
    tasks: int
    threads: int
    descriptors: int
    megabytes: float
    objects: int


@dataclass
class Told:
    """What callers were told, in a fixed amount of memory."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    milliseconds: list[int] = field(default_factory=lambda: [0] * (_LONGEST_SECONDS * _BUCKETS_A_SECOND))

    def __call__(self, call: Call) -> None:
        self.outcomes[f"{call.verb}: {call.outcome}"] += 1
        at = int((call.ended - call.began) * _BUCKETS_A_SECOND)
        self.milliseconds[min(at, len(self.milliseconds) - 1)] += 1

    def percentile(self, share: float) -> int:
        rank, seen = share * sum(self.milliseconds), 0
        for at, n in enumerate(self.milliseconds):
            seen += n
            if seen >= rank and seen:
                return at
        return 0


class Soak:
    def __init__(self, place: Place, seed: int, listener: Listener) -> None:
        self._place = place
        self._listener = listener
        self._random = random.Random(seed)
        self.cache = place.cache(front_ttl=SHORT_FRONT_TTL)
        self.told = Told()
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.logged: Counter[str] = Counter()
        self.stale = 0
        #: While it ran, in megabytes, fault by fault: a leak climbs to the end, an allocator to a level.
        self.memory: list[float] = []
        #: How long the front took to serve again, at worst.
        self.slowest = 0.0

    async def run(self, seconds: float) -> None:
        """Load for so long, faults coming and going; returns when the callers have gone and all is quiet."""
        load = Load(self.cache, seed=self._random.randrange(1 << 30), on_call=self.told, most_new=MOST_NEW_KEYS)
        until = monotonic() + seconds
        with no_task_fails_unseen(load.seen.exceptions):
            async with load.running():
                while monotonic() < until:
                    if not await load.settled(RECOVERY_SECONDS):
                        self.wrong.append(f"did not recover within {RECOVERY_SECONDS} s of {self.faults}")
                    await asyncio.sleep(self._random.random())
                    await self._trouble(load)
                await load.settled(RECOVERY_SECONDS)
            self._judge(load)

    async def _trouble(self, load: Load) -> None:
        """One fault, or one of each tier at once; and until what it excuses is over."""
        before = self.cache.stats()
        tiers = self._random.choice((["front"], ["store"], ["front", "store"]))
        faults = [self._random.choice(ON_SERVERS[tier]) for tier in tiers]
        began, seen = monotonic(), len(load.seen.stale)
        await self._befall(faults)
        ended = monotonic()
        await load.settled(RECOVERY_SECONDS)
        self.slowest = max(self.slowest, monotonic() - ended)
        excused = self.cache.stats().unmarked > before.unmarked or any(fault.forgets for fault in faults)
        bound = stale_seconds(forgets=any(fault.forgets for fault in faults))
        if excused:
            await load.nothing_stale(ended + bound)
        for stale in load.seen.stale[seen:]:
            if not excused or not began <= stale.began <= ended + bound:
                self.wrong.append(f"{'and '.join(fault.name for fault in faults)}: {stale}")
        self.stale += len(load.seen.stale) - seen
        del load.seen.stale[seen:]
        self._count_lines()
        self.memory.append(psutil.Process().memory_info().rss / 1e6)

    async def _befall(self, faults: list[Fault]) -> None:
        async with AsyncExitStack() as stack:
            for fault in faults:
                self.faults[fault.name] += 1
                await stack.enter_async_context(fault.course(self._place))
            await asyncio.sleep(0.2 + 2 * self._random.random())

    def _judge(self, load: Load) -> None:
        self.wrong += [*load.seen.exceptions, *load.seen.wrong]

    def _count_lines(self) -> None:
        """What was logged is not kept: a flood of it would be taken for a leak."""
        for level, message in self._listener.lines:
            self.logged[f"{level} {message.split(':')[0].removesuffix(' works again')}"] += 1
        self._listener.lines.clear()

    async def figures(self) -> Figures:
        """Without what is the harness's: the workers of its loops, and two descriptors for each connection by proxy."""
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.1)
        _give_back_memory()
        process = psutil.Process()
        return Figures(
            await self._place.do(connections, self._place.front_url),
            await self._place.do(connections, self._place.store_url),
            len(asyncio.all_tasks()),
            sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate()),
            process.num_fds() - 2 * self._relays(),
            process.memory_info().rss / 1e6,
            len(gc.get_objects()),
        )

    def _relays(self) -> int:
        return self._place.front_proxy.connections + self._place.store_proxy.connections


def complaints(before: Figures, after: Figures) -> list[str]:
    """What has grown."""
    found: list[str] = []
    if after.front_connections > LOOPS * FRONT_CONNECTIONS or after.store_connections > LOOPS * STORE_CONNECTIONS:
        found.append("there are more connections than configured")
    # Of those that are configured, more or fewer may be open: each is a descriptor.
    held = after.front_connections + after.store_connections - before.front_connections - before.store_connections
    for name, spare in (("tasks", 0), ("threads", 0), ("descriptors", max(0, held) + SPARE_DESCRIPTORS)):
        if getattr(after, name) > getattr(before, name) + spare:
            found.append(f"more {name}: {getattr(before, name)}, then {getattr(after, name)}")
    if after.megabytes > before.megabytes + SPARE_BYTES / 1e6:
        found.append("more memory")
    if after.objects > before.objects * (1 + SPARE_OBJECTS):
        found.append("more objects")
    return found


_THREADS: Final = 4


async def _furnish(servers: Servers) -> None:
    """What the harness itself would otherwise begin to use after the first look."""
    threads = ThreadPoolExecutor(_THREADS)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(_THREADS)))
    await asyncio.to_thread(servers.other_redis.start)


async def soak(servers: Servers, seconds: float, warm_up: float, seed: int) -> list[str]:
    """Prints what was seen; returns what was not as it should be."""
    await _furnish(servers)
    with listening() as listener:
        async with open_place(servers, "postgres") as place:
            run = Soak(place, seed, listener)
            await run.run(warm_up)
            before, traced = await run.figures(), _traced()
            await run.run(seconds)
            after = await run.figures()
            _print(run, before, after)
            if traced is not None:
                _print_growth(traced)
            found = [*run.wrong, *complaints(before, after)]
            await run.cache.aclose()
            left = [await place.do(left_open, url) for url in (place.front_url, place.store_url)]
            if any(left):
                found.append(f"{left} connections were left open")
            return found


def _print(run: Soak, before: Figures, after: Figures) -> None:
    print(f"{'':<20}{'warmed up':>12}{'at the end':>12}")
    for name, value in asdict(before).items():
        print(f"{name.replace('_', ' '):<20}{value:>12.6g}{asdict(after)[name]:>12.6g}")
    print("memory, tenth by tenth: " + ", ".join(f"{megabytes:.0f}" for megabytes in _tenths(run.memory)))
    print(f"calls: {run.told.outcomes.total()}: {dict(sorted(run.told.outcomes.items()))}")
    print("milliseconds: " + ", ".join(f"p{100 * q:g} {run.told.percentile(q)}" for q in (0.5, 0.99, 0.999, 1.0)))
    print(f"faults: {run.faults.total()}: {dict(sorted(run.faults.items()))}")
    print(f"older answers, all allowed unless listed below: {run.stale}; slowest recovery {run.slowest:.1f} s")
    print(f"logged: {dict(sorted(run.logged.items()))}")
    print(f"counted: {_counts(run.cache)}")


def _give_back_memory() -> None:
    """What the C library keeps for later is no leak. Other libraries than glibc's have no such call."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _traced() -> tracemalloc.Snapshot | None:
    return tracemalloc.take_snapshot() if tracemalloc.is_tracing() else None


def _print_growth(before: tracemalloc.Snapshot) -> None:
    for grown in tracemalloc.take_snapshot().compare_to(before, "lineno")[:12]:
        print(f"grown: {grown}")


def _tenths(values: list[float]) -> list[float]:
    """The mean of each tenth."""
    parts = [values[len(values) * i // 10 : len(values) * (i + 1) // 10] for i in range(10)]
    return [sum(part) / len(part) for part in parts if part]


def _counts(cache: TieredCache) -> dict[str, int]:
    return {name: value for name, value in asdict(cache.stats()).items() if isinstance(value, int) and value}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_SECONDS, help="seconds before the first look")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with Servers() as servers:
        found = asyncio.run(soak(servers, given.minutes * 60, given.warm_up, given.seed))
    for complaint in found[:20]:
        print(f"WRONG: {complaint}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
