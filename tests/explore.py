"""Exploration of the real engine: a seeded scheduler decides what happens next, at every step between the tiers.

    python -m tests.explore                       a hundred thousand schedules of every scenario
    python -m tests.explore --schedules 1000000   more of them
    python -m tests.explore --seed 4711           one schedule again, with all that happened in it
    python -m tests.explore --naive               the front without the rule: must be caught

Two caches stand for two processes over one front and one store. Every call of a tier stops before and after it does its
work, and goes on when the scheduler says so; callers are cancelled, cells are dropped, exchanges fail, a process dies.
Afterwards the history is judged by real time alone: who began after something had ended must see it. Time itself is the
scheduler's: timers are due when it says so.

A process that cannot read the store goes by the last clears that it saw: what others cleared since it may still see.

An unreachable front loses marks and settles of one change alike. Then the process that made it must see it, and the
others as soon as the journal has been delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Literal, TypeVar
from unittest.mock import patch

from tests.doubles import DictStore
from tiered_cache import (
    MISSING,
    FrontUnavailableError,
    MemoryFront,
    Namespace,
    Step,
    StoreUnavailableError,
    TieredCache,
    TieredCacheError,
    _compute,
    _portal,
)
from tiered_cache._options import OptionsDict
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_WRITE
from tiered_cache._tiers import Emptying, Entry, Found, Notice, Row

T = TypeVar("T")

#: What may go wrong in a schedule. Together, some of them are more than the rule promises to withstand: a mark that is
#: dropped and a writer that never settles, for one, which is bounded by `front_ttl` instead.
Scenario = Literal[
    "drops", "cancelled callers", "a killed process", "a failing front", "an unreachable front", "a failing store"
]
SCENARIOS: Final[tuple[Scenario, ...]] = (
    *("drops", "cancelled callers", "a killed process"),
    *("a failing front", "an unreachable front", "a failing store"),
)

#: Those in which every process has its leases, and they tell it of what the others change.
STRICT: Final = ("drops", "cancelled callers")

KEYS: Final = ("k", "l")
PATHS: Final = ((), ("a",), ("a", "b"))
MOST_TURNS: Final = 10_000


#: No exchange is ever given up, however often the scheduler lets time pass.
FAR_OFF: Final = 1e6
PATIENCE: Final = OptionsDict(
    front_timeout=FAR_OFF,
    store_timeout=FAR_OFF,
    mark_ttl=2 * FAR_OFF,
    front_ttl=9 * FAR_OFF,
    breaker_window=FAR_OFF,  # by the machine's clock
)


class ViolationError(AssertionError):
    """A history that cannot be."""


@dataclass
class Operation:
    """What a caller did, by the scheduler's count of steps. Its effect, if any, lies between `began` and `ended`."""

    process: int
    verb: str
    path: tuple[str, ...]
    key: str = ""
    value: Any = MISSING
    began: float = 0
    ended: float = inf
    #: It returned, so that its effect is known.
    done: bool = False
    #: Of a computation: when it began to compute, and had its result; if it computed at all.
    computing: float = inf
    computed: float = inf

    def covers(self, path: tuple[str, ...], key: str) -> bool:
        if self.verb in ("clear", "erase"):
            return path[: len(self.path)] == self.path
        return self.path == path and self.key == key

    @property
    def changes(self) -> bool:
        return self.verb != "get" and not (self.verb == "compute" and self.computed == inf)


class Killed(BaseException):
    """Raised into what a process that was killed had under way: nothing of it happens any more."""


@dataclass(eq=False)
class Point:
    """Somebody stopped at a tier."""

    process: int
    label: str
    token: bytes | None = None
    go: asyncio.Future[Exception | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Schedule:
    def __init__(self, seed: int, scenario: Scenario, *, naive: bool, log: Callable[[str], None]) -> None:
        self.random = random.Random(f"{seed} {scenario}")
        self.scenario = scenario
        self.now = 0
        self.log = log
        self.points: list[Point] = []
        self.dead: set[int] = set()
        self.history: list[Operation] = []
        self.clock = [0.0]
        self.delivered = inf
        self.front = MemoryFront(clock=lambda: self.clock[0] + asyncio.get_running_loop().time())
        self.store = DictStore()
        self.unreachable = scenario == "an unreachable front"
        self.healed = False
        self.blind: list[tuple[int, int]] = []  # which process could not read the store, and when
        self.lost: set[bytes] = set()  # tokens of those whose mark, or settle, has failed already
        # With one batch at a time, the next caller has to wait for his turn.
        options = PATIENCE.copy()
        options["batches_in_flight"] = self.random.choice([1, 2])
        self.caches = [
            TieredCache(SteppedFront(self, n, naive=naive), SteppedStore(self, n), **options) for n in (0, 1)
        ]
        for cache in self.caches:
            cache.view.shared.engine.on_change = lambda _: None

    async def at(self, process: int, label: str, token: bytes | None = None) -> None:
        point = Point(process, label, token)
        self.points.append(point)
        try:
            error = await point.go
        except asyncio.CancelledError:
            if point in self.points:
                self.points.remove(point)
            raise
        if process in self.dead:
            raise Killed
        if error is not None:
            raise error

    # -- one schedule

    async def run(self) -> None:
        for cache in self.caches:
            await self.alone(cache.setup())
        first = Operation(0, "set", PATHS[-1], KEYS[0])
        await self.alone(self.operate(first))
        if self.random.random() < 0.5:
            self.front.forget()
        tasks = [asyncio.ensure_future(self.operate(self.choose())) for _ in range(self.random.randint(4, 9))]
        await self.until_done(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Killed):
                raise error
        await self.alone(self.read_all())
        if self.unreachable:
            self.healed = True
            await self.alone(self.deliver())
            self.delivered = self.now
            await self.alone(self.read_all())
        self.check_front()
        self.clock[0] += 3 * FAR_OFF  # marks have expired, values not
        await self.alone(self.read_all())
        for operation in self.history:
            self.judge(operation)

    async def until_done(self, tasks: Sequence[asyncio.Future[None]]) -> None:
        victim = self.random.randrange(2) if self.scenario == "a killed process" else None
        for _ in range(MOST_TURNS):
            await self.quiet()
            self.now += 1
            if not self.points and all(task.done() for task in tasks):
                return
            if not self.points or self.random.random() < 0.05:
                virtual_loop().let_time_pass()
                continue
            if victim is not None and self.random.random() < 0.03:
                self.log(f"{self.now}: process {victim} is killed")
                self.dead.add(victim)
                victim = None
            self.disturb(tasks)
            self.release(self.points.pop(self.random.randrange(len(self.points))))
        raise ViolationError("somebody goes round for ever")

    async def alone(self, call: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(call)
        while not task.done():
            await self.quiet()
            self.now += 1
            if not self.points and not task.done():
                virtual_loop().let_time_pass()
            for point in self.points:
                point.go.set_result(None)
            self.points.clear()
        task.result()

    async def quiet(self) -> None:
        """Returns when nobody can go on by himself."""
        loop: Any = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            if not loop._ready:
                return

    def disturb(self, tasks: Sequence[asyncio.Future[None]]) -> None:
        if self.scenario == "drops" and self.random.random() < 0.15 and self.front._cells:
            key = self.random.choice(sorted(self.front._cells))
            self.log(f"{self.now}: dropped {key[-8:]!r}")
            self.front._drop(key)
        under_way = [task for task in tasks if not task.done()]
        if self.scenario == "cancelled callers" and under_way and self.random.random() < 0.05:
            self.log(f"{self.now}: somebody is cancelled")
            self.random.choice(under_way).cancel()

    def release(self, point: Point) -> None:
        if point.go.done():  # cancelled a moment ago
            return
        error: Exception | None = None
        if self.scenario == "a failing front" and point.label.startswith("front") and self.random.random() < 0.15:
            # Who can neither announce a change nor take it back would leave the others with what they have.
            error = None if point.token in self.lost else FrontUnavailableError("as decided")
            self.lost.update([point.token] if point.token else [])
        if self.unreachable and point.label.startswith("front") and not self.healed and self.random.random() < 0.3:
            error = FrontUnavailableError("as decided", failure=self.random.choice(["other", "timeout"]))
        if self.scenario == "a failing store" and point.label.startswith("store") and self.random.random() < 0.1:
            unknown = point.label.endswith("after") or self.random.random() < 0.5
            error = TimeoutError() if unknown else StoreUnavailableError("as decided")
            if point.label.startswith("store read"):
                self.blind.append((point.process, self.now))
        self.log(f"{self.now}: {point.process} {point.label}{' fails' if error else ''}")
        point.go.set_result(error)

    # -- callers

    def choose(self) -> Operation:
        verb = self.random.choices(
            ["get", "get all", "set", "set all", "delete", "clear", "erase", "compute", "reclaim", "deliver"],
            [9, 1, 5, 1, 2, 2, 1, 2, 1, 3 if self.unreachable else 0],
        )[0]
        (path,) = self.random.choices(PATHS, [1, 1, 8])
        (key,) = self.random.choices(KEYS, [8, 1])
        return Operation(self.random.randrange(2), verb, path, key)

    async def operate(self, wanted: Operation) -> None:
        for _ in range(self.random.choice([1, 1, 1, 20])):  # some come late
            await self.at(wanted.process, f"{wanted.verb} {wanted.path} {wanted.key} begins")
        space = self.caches[wanted.process].namespace(*wanted.path)
        if wanted.verb == "get all":
            await self.record(wanted, "get", KEYS, lambda ops: self.get_all(space, ops))
        elif wanted.verb == "set all":
            await self.record(wanted, "set", KEYS, lambda ops: space.set_many({op.key: op.value for op in ops}))
        elif wanted.verb == "reclaim":
            await self.quietly(self.caches[wanted.process].reclaim())
        elif wanted.verb == "deliver":
            await self.quietly(self.caches[wanted.process].view.shared.engine.upkeep.deliver())
        else:
            await self.record(wanted, wanted.verb, (wanted.key,), lambda ops: self.one(space, ops[0]))

    async def one(self, space: Namespace, operation: Operation) -> None:
        if operation.verb == "get":
            operation.value = await space.get(operation.key, MISSING)
        elif operation.verb == "set":
            await space.set(operation.key, operation.value)
        elif operation.verb == "delete":
            await space.delete(operation.key)
        elif operation.verb == "clear":
            await space.clear()
        elif operation.verb == "erase":
            await space.erase()
        else:
            value = operation.value

            async def compute() -> Any:
                operation.computing = self.now
                for _ in range(self.random.choice([1, 10, 60])):  # some take long
                    await self.at(operation.process, f"computing {value}")
                operation.computed = self.now
                return value

            await space.get_or_compute(operation.key, compute)

    async def get_all(self, space: Namespace, operations: Sequence[Operation]) -> None:
        found = await space.get_many([operation.key for operation in operations])
        for operation in operations:
            operation.value = found.get(operation.key, MISSING)

    async def record(
        self,
        wanted: Operation,
        verb: str,
        keys: Sequence[str],
        call: Callable[[list[Operation]], Awaitable[None]],
    ) -> None:
        operations: list[Operation] = []
        for key in keys:
            value = f"{verb} {len(self.history)}" if verb in ("set", "compute") else MISSING
            operations.append(Operation(wanted.process, verb, wanted.path, key, value, began=self.now))
            self.history.append(operations[-1])
        done = False
        try:
            await call(operations)
            done = True
        except TieredCacheError:
            pass
        finally:
            for operation in operations:
                operation.ended, operation.done = self.now, done
                self.log(f"{self.now}: {operation}")

    async def quietly(self, call: Awaitable[object]) -> None:
        try:
            await call
        except TieredCacheError:
            return

    async def deliver(self) -> None:
        """One process for all: the other may be the one that has to be told."""
        await self.caches[0].view.shared.engine.upkeep.deliver()

    async def read_all(self) -> None:
        for n, cache in enumerate(self.caches):
            if n in self.dead:
                continue
            for path in PATHS:
                await self.record(
                    Operation(n, "get", path),
                    "get",
                    KEYS,
                    lambda ops, cache=cache, path=path: self.get_all(cache.namespace(*path), ops),
                )

    # -- the verdict

    def judge(self, read: Operation) -> None:
        if read.verb != "get" or not read.done:
            return
        changes = [op for op in self.history if op.changes and op.covers(read.path, read.key)]
        if read.value is MISSING:
            self.judge_miss(read, changes)
            return
        (write,) = [op for op in changes if op.value == read.value]
        if write.began > read.ended:
            raise ViolationError(f"{read} saw what was not written yet: {write}")
        for newer in changes:
            if newer is write or not newer.done or newer.ended >= read.began:
                continue
            if newer.verb == "compute":  # whether and when it stored its result is for `overtakes` to say
                continue
            if read.began < self.delivered and newer.process != read.process and self.unreachable:
                continue
            if newer.verb in ("clear", "erase") and newer.process != read.process and self.was_blind(read):
                continue  # judged by the last watermarks that its process saw
            if newer.began > write.ended or self.overtakes(newer, write):
                raise ViolationError(f"{read} saw what {write} wrote, after {newer}")

    def was_blind(self, read: Operation) -> bool:
        return any(process == read.process and read.began <= at <= read.ended for process, at in self.blind)

    def judge_miss(self, read: Operation, changes: Sequence[Operation]) -> None:
        for write in changes:
            if write.verb != "set" or not write.done or write.ended >= read.began:
                continue
            ends = [op for op in changes if op.verb in ("delete", "clear", "erase")]
            if not any(op.ended >= write.began and op.began <= read.ended for op in ends):
                raise ViolationError(f"{read} missed {write}")

    def overtakes(self, change: Operation, computation: Operation) -> bool:
        """A computation is not stored where its key was changed after it began and before it had its result.

        With the front away, and for a clear with the store away as well, only its own process can know.
        """
        if change.process != computation.process and self.scenario not in STRICT:
            return False
        return (
            computation.verb == "compute"
            and change.began > computation.computing
            and change.ended < computation.computed
        )

    def check_front(self) -> None:
        left = [key for key, cell in self.front._cells.items() if cell.content[:1] in (b"R", b"W")]
        if left and self.scenario not in ("a killed process", "a failing front", "an unreachable front"):
            raise ViolationError(f"marks that nobody settled: {left}")


class SteppedFront:
    """The front as one process sees it. `naive`: marks do nothing, and whoever settles puts what he has."""

    def __init__(self, schedule: Schedule, process: int, *, naive: bool) -> None:
        self._schedule = schedule
        self._process = process
        self._naive = naive

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        await self._schedule.at(self._process, "front get, before")
        cells = await self._schedule.front.get(keys)
        await self._schedule.at(self._process, "front get, after")
        return cells

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        names = " ".join(sorted({step.op for step in steps}))
        await self._schedule.at(self._process, f"front {names}, before", token)
        done = await (self._put(steps) if self._naive else self._schedule.front.apply(steps, token, mark_ttl))
        await self._schedule.at(self._process, f"front {names}, after", token)
        return done

    async def _put(self, steps: Sequence[Step]) -> list[bool]:
        token, front = b"naive" + bytes(11), self._schedule.front
        puts = [step for step in steps if step.op not in (MARK_READ, MARK_WRITE)]
        await front.apply([Step(MARK_WRITE, step.key) for step in puts], token, 300_000)
        await front.apply([step._replace(op=SETTLE_WRITE) for step in puts], token, 300_000)
        return [True] * len(steps)

    async def aclose(self) -> None:
        """Nothing to close."""


class SteppedStore:
    """The store as one process sees it."""

    def __init__(self, schedule: Schedule, process: int) -> None:
        self._schedule = schedule
        self._process = process
        self._inner = schedule.store

    async def setup(self, *, create: bool) -> str:
        return await self._inner.setup(create=create)

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        return await self._step("read", self._inner.read(digests, addresses, stale=stale))

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        return await self._step("peek", self._inner.peek(digests))

    async def now(self) -> int:
        return await self._inner.now()

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        return await self._step("write", self._inner.write(entries, journal))

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        await self._step("delete", self._inner.delete(digests, journal))

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        return await self._step("clear", self._inner.clear(address, journal))

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return await self._step("journal", self._inner.journal(prefix, limit))

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        await self._step("acknowledge", self._inner.acknowledge(notices))

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        return await self._step("names", self._inner.names(address, prefix, after, limit))

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        return await self._step("reclaim", self._inner.reclaim(limit, empty))

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        return await self._step("erase", self._inner.erase(address, limit, empty))

    async def _step(self, name: str, work: Awaitable[T]) -> T:
        try:
            await self._schedule.at(self._process, f"store {name}, before")
            answer = await work
        finally:
            close: Any = getattr(work, "close", None)
            if close is not None:
                close()
        await self._schedule.at(self._process, f"store {name}, after")
        return answer

    async def aclose(self) -> None:
        """Nothing to close."""


def explore(seed: int, scenario: Scenario, *, naive: bool = False, log: Callable[[str], None] = lambda _: None) -> None:
    """Runs one schedule. Raises ViolationError, naming the seed."""

    async def run() -> None:
        await Schedule(seed, scenario, naive=naive, log=log).run()

    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner, patch.object(_portal, "submit", _submit):
            # A mark is somebody's who goes on, unless somebody may be dead.
            strict = scenario in STRICT
            with patch.object(_compute, "_PASSING_SECONDS", FAR_OFF if strict else _compute._PASSING_SECONDS):
                runner.run(run())
    except ViolationError as error:
        raise ViolationError(f"seed {seed}, {scenario}: {error}") from None


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until it is told otherwise."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def let_time_pass(self) -> None:
        """On to the moment when the next timer is due."""
        inside: Any = self
        due = [handle.when() for handle in inside._scheduled if not handle.cancelled() and handle.when() < FAR_OFF]
        if due:
            self._now = max(self._now, min(due))


def virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def _submit(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> asyncio.Task[T | None]:
    """Stands for the portal: what goes on in the background is stepped as well."""

    async def run() -> T | None:
        try:
            return await work(*args)
        except Killed:
            return None

    return asyncio.get_running_loop().create_task(run())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.explore", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--schedules", type=int, default=100_000, help="for each scenario")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one, with all that happens")
    parser.add_argument("--scenario", choices=SCENARIOS, help="only this one")
    parser.add_argument("--naive", action="store_true")
    given = parser.parse_args()
    broken = False
    logging.disable()  # each failure as decided would be announced
    scenarios: Sequence[Scenario] = [given.scenario] if given.scenario else SCENARIOS
    for scenario in scenarios:
        if given.seed is not None:
            explore(given.seed, scenario, naive=given.naive, log=print)
            continue
        found = 0
        for seed in range(given.first, given.first + given.schedules):
            try:
                explore(seed, scenario, naive=given.naive)
            except ViolationError as error:
                found += 1
                print(error, flush=True)
        print(f"{scenario}: {given.schedules} schedules from seed {given.first}, {found} violations", flush=True)
        broken = broken or bool(found)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
