"""A caller who is cancelled, at every step of every verb: before and after each exchange with a tier.

Whatever the step, nobody else's call fails, no follower of a computation is lost, no mark is left in a cell that would
keep its key out of the front, and what is read afterwards is what the store holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import uuid4

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.doubles import Computation
from tests.processes import EVERY_PAIR, Tiers, open_tiers, unhurried
from tiered_cache import MISSING, Namespace, TieredCache
from tiered_cache._cells import is_mark
from tiered_cache._keys import Scope
from tiered_cache.testing import FaultyFront, FaultyStore, Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


class Step(NamedTuple):
    """The n-th call of a name, before it reaches its tier or after it was answered."""

    tier: str
    name: str
    occurrence: int
    when: Any


class Stage:
    """A namespace of its own, with an old value under "k"; the caller's process, and another one."""

    def __init__(self, tiers: Tiers) -> None:
        self.tiers = tiers
        self.path = (uuid4().hex,)
        self.fronts = [FaultyFront(tiers.front) for _ in range(2)]
        self.stores = [FaultyStore(tiers.store) for _ in range(2)]
        self.caches = [
            TieredCache(front, store, **unhurried()) for front, store in zip(self.fronts, self.stores, strict=True)
        ]
        for cache in self.caches:
            cache.view.shared.engine.on_change = lambda _: None
            cache.view.shared.engine.on_use = lambda _: None

    @property
    def mine(self) -> Namespace:
        return self.caches[0].namespace(*self.path)

    @property
    def others(self) -> Namespace:
        return self.caches[1].namespace(*self.path)

    def stop(self, step: Step) -> Gate:
        tier: Any = self.fronts[0] if step.tier == "front" else self.stores[0]
        for _ in range(step.occurrence):
            tier.plan(step.name, step.when, checkpoint)
        return tier.stop(step.name, step.when)

    async def marks(self) -> list[str | None]:
        """The names whose cells hold a mark; each has an expiry."""
        found: list[str | None] = []
        for name in ("k", None):
            if is_mark(await self.tiers.cell(Scope(self.path), name) or b""):
                assert await self.tiers.left(Scope(self.path), name) != -1, "a mark that never expires"
                found.append(name)
        return found


async def get(space: Namespace) -> None:
    assert await space.get("k", MISSING) in ("old", MISSING)


async def set_(space: Namespace) -> None:
    await space.set("k", "new")


async def delete(space: Namespace) -> None:
    await space.delete("k")


async def clear(space: Namespace) -> None:
    await space.clear()


async def erase(space: Namespace) -> None:
    await space.erase()


async def compute(space: Namespace) -> None:
    await space.get_or_compute("k", Computation("new"))


class Verb(NamedTuple):
    call: Callable[[Namespace], Awaitable[None]]
    #: What is there before: a value in both tiers, in the store alone, or nowhere.
    before: str
    #: What may be read afterwards.
    after: Sequence[Any]


VERBS: Final = {
    "get, in the front": Verb(get, "both", ["old"]),
    "get, in the store": Verb(get, "store", ["old"]),
    "get, nowhere": Verb(get, "nowhere", [MISSING]),
    "set": Verb(set_, "both", ["old", "new"]),
    "delete": Verb(delete, "both", ["old", MISSING]),
    "clear": Verb(clear, "both", ["old", MISSING]),
    "erase": Verb(erase, "both", ["old", MISSING]),
    "get_or_compute": Verb(compute, "nowhere", [MISSING, "new"]),
}


async def set_up(tiers: Tiers, verb: Verb) -> Stage:
    stage = Stage(tiers)
    if verb.before != "nowhere":
        await stage.others.set("k", "old")
        assert await stage.mine.get("k") == await stage.others.get("k") == "old"
    if verb.before == "store":
        await tiers.drop(Scope(stage.path), "k")
    else:
        await stage.mine.get("k")
    for tier in (*stage.fronts, *stage.stores):
        tier.calls.clear()
    return stage


async def steps_of(tiers: Tiers, verb: Verb) -> list[Step]:
    stage = await set_up(tiers, verb)
    await verb.call(stage.mine)
    steps: list[Step] = []
    for name, tier in (("front", stage.fronts[0]), ("store", stage.stores[0])):
        for call, n in tier.counts.items():
            steps += [Step(name, call, i, when) for i in range(n) for when in ("before", "after")]
    assert steps
    return steps


Meanwhile = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Happens meanwhile."""


async def by_scope(call: Callable[[], Awaitable[None]], gate: Gate, meanwhile: Meanwhile = nothing) -> None:
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await call()

        tasks.start_soon(run)
        await gate.reached()
        await meanwhile()
        tasks.cancel_scope.cancel()
        gate.open()


async def by_task(call: Callable[[], Awaitable[None]], gate: Gate, meanwhile: Meanwhile = nothing) -> None:
    """As `asyncio.wait_for` and `asyncio.timeout` do, which no shielded scope keeps out."""

    async def run() -> None:
        await call()

    task = asyncio.ensure_future(run())
    await gate.reached()
    await meanwhile()
    task.cancel()
    await asyncio.sleep(0)
    gate.open()
    await asyncio.wait([task])


async def eventually(reached: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not await reached():  # noqa: ASYNC110  (a lease leaves in the background)
            await anyio.sleep(0.002)


@pytest.mark.parametrize("cancel", [by_scope, by_task])
@pytest.mark.parametrize("name", VERBS)
async def test_cancelled_at_every_step_it_leaves_nothing_behind(tiers: Tiers, name: str, cancel: Any) -> None:
    verb = VERBS[name]
    for step in await steps_of(tiers, verb):
        stage = await set_up(tiers, verb)
        gate = stage.stop(step)
        await cancel(lambda stage=stage: verb.call(stage.mine), gate)

        async def settled(stage: Stage = stage) -> bool:
            return not await stage.marks()

        await eventually(settled)
        stored = await stage.others.get("k", MISSING)
        assert stored in verb.after, step
        # The next calls of the same process get what they asked for, and the front serves again.
        assert await stage.mine.get("k", MISSING) == stored, step
        await stage.mine.set("k", "next")
        assert [await stage.mine.get("k"), await stage.others.get("k")] == ["next"] * 2, step
        before = stage.caches[1].stats().hits_front
        await stage.others.get("k")
        assert stage.caches[1].stats().hits_front == before + 1, step


@pytest.mark.parametrize("cancel", [by_scope, by_task])
async def test_a_leader_cancelled_at_every_step_loses_no_follower(tiers: Tiers, cancel: Any) -> None:
    """Neither in its own process nor in another."""
    verb = VERBS["get_or_compute"]
    for step in await steps_of(tiers, verb):
        stage = await set_up(tiers, verb)
        gate = stage.stop(step)
        results: list[Any] = []

        async def follow(space: Namespace, results: list[Any] = results) -> None:
            results.append(await space.get_or_compute("k", Computation("new")))

        async def lead(stage: Stage = stage) -> None:
            await verb.call(stage.mine)

        async with anyio.create_task_group() as tasks:

            async def meanwhile(stage: Stage = stage, follow: Any = follow) -> None:
                tasks.start_soon(follow, stage.mine)
                tasks.start_soon(follow, stage.others)
                await anyio.wait_all_tasks_blocked()

            with anyio.fail_after(PATIENCE_SECONDS):
                await cancel(lead, gate, meanwhile)
        assert results == ["new"] * 2, step
        assert await stage.others.get("k") == "new", step
