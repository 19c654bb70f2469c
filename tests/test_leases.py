"""`get_or_compute` across processes: who computes, who waits, and what is not stored."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from tests.doubles import Computation, DictStore
from tests.processes import EVERY_PAIR, Tiers, open_tiers, unhurried
from tiered_cache import (
    MISSING,
    ConfigurationError,
    MemoryFront,
    Namespace,
    RawCodec,
    TieredCache,
    UnsupportedValueError,
)
from tiered_cache._cells import is_mark
from tiered_cache._keys import Scope
from tiered_cache.testing import FaultyFront, FaultyStore, Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS

LEASE_SECONDS = 1.5
"""Longer than a shared machine stalls: a lease that is renewed in time is never lost."""

#: Of the namespace that nobody but the current test has.
PATH: tuple[str, ...] = ()


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


@pytest.fixture(autouse=True)
def a_namespace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_leases.PATH", (uuid4().hex,))


class Process:
    """One of several: its cache, and the namespace that they have in common."""

    def __init__(self, tiers: Tiers, **options: Any) -> None:
        self.tiers = tiers
        self.front = FaultyFront(tiers.front)
        self.store = FaultyStore(tiers.store)
        self.cache = TieredCache(self.front, self.store, **unhurried(**options))
        self.cache.view.shared.engine.on_change = lambda _: None
        self.space: Namespace = self.cache.namespace(*PATH)
        self.results: list[Any] = []

    async def ask(self, compute: Computation, **how: Any) -> None:
        self.results.append(await self.space.get_or_compute("k", compute, **how))

    async def cell(self) -> bytes | None:
        return await self.tiers.cell(Scope(PATH), "k")


def gated(result: Any = "computed") -> tuple[Computation, Gate]:
    gate = Gate()
    return Computation(result, gate), gate


async def waits(process: Process) -> None:
    """Returns once it waits for another process."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not process.cache.stats().waited:  # noqa: ASYNC110  (counters tell nobody)
            await anyio.sleep(0.002)


async def test_of_two_processes_one_computes_and_the_other_is_given_what_it_stored(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated()
    spared = Computation("never")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        for _ in range(3):
            tasks.start_soon(other.ask, spared)
        await waits(other)
        gate.open()
    assert one.results + other.results == ["computed"] * 4
    assert spared.runs == 0
    stats = other.cache.stats()
    assert (stats.waited, stats.computed) == (1, 0)
    assert (one.cache.stats().waited, one.cache.stats().computed) == (0, 1)


async def test_a_leader_that_is_cancelled_hands_over_to_another_process(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated()
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as leader:
        leader.start_soon(one.ask, compute)
        await gate.reached()
        tasks.start_soon(other.ask, Computation("taken over"))
        await waits(other)
        leader.cancel_scope.cancel()
    assert other.results == ["taken over"]


async def test_a_computation_that_fails_hands_over_too(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated(LookupError("no answer"))

    async def fail() -> None:
        with suppress(LookupError):
            await one.ask(compute)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        await gate.reached()
        tasks.start_soon(other.ask, Computation("taken over"))
        await waits(other)
        gate.open()
    assert other.results == ["taken over"]


async def test_a_process_that_died_loses_its_lease(tiers: Tiers) -> None:
    """As long as it is alive, the lease outlives its own time to live many times over."""
    one, other = Process(tiers, lease_ttl=LEASE_SECONDS), Process(tiers)
    compute, gate = gated()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        tasks.start_soon(other.ask, Computation("taken over"))
        await waits(other)
        await anyio.sleep(LEASE_SECONDS + 0.5)  # longer than a lease lives that nobody renews
        assert other.results == []
        one.front.down = True  # nothing is heard of it any more
        with anyio.fail_after(PATIENCE_SECONDS):
            while not other.results:  # noqa: ASYNC110  (a lease expires by the front)
                await anyio.sleep(0.01)
        assert other.results == ["taken over"]
        gate.open()


async def test_a_synchronous_computation_keeps_its_lease(tiers: Tiers) -> None:
    one, other = Process(tiers, lease_ttl=LEASE_SECONDS), Process(tiers)
    started, go_on = anyio.Event(), threading.Event()

    def compute() -> str:
        anyio.from_thread.run_sync(started.set)
        go_on.wait(PATIENCE_SECONDS)
        return "computed"

    async def ask() -> None:
        one.results.append(await anyio.to_thread.run_sync(lambda: one.space.sync.get_or_compute("k", compute)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await started.wait()
        tasks.start_soon(other.ask, Computation("never"))
        await waits(other)
        await anyio.sleep(LEASE_SECONDS + 0.5)
        assert other.results == []
        go_on.set()
    assert one.results + other.results == ["computed"] * 2


@pytest.mark.parametrize("verb", ["set", "delete", "clear", "clear above", "erase"])
async def test_what_another_process_changed_meanwhile_is_not_overwritten(tiers: Tiers, verb: str) -> None:
    """Whoever asked is given the result all the same: it was as true as could be when he asked."""
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated("old knowledge")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        match verb:
            case "set":
                await other.space.set("k", "new")
            case "delete":
                await other.space.delete("k")
            case "clear":
                await other.space.clear()
            case "clear above":
                await other.cache.clear()
            case _:
                await other.space.erase()
        gate.open()
    assert one.results == ["old knowledge"]
    after = "new" if verb == "set" else MISSING
    assert [await process.space.get("k", MISSING) for process in (one, other, one, other)] == [after] * 4
    assert one.cache.stats().overtaken == 1
    assert not is_mark(await one.cell() or b"")


async def test_a_clear_of_another_namespace_concerns_nobody(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        await other.space.namespace("below").clear()
        await other.cache.namespace("beside").clear()
        await other.space.set("another key", 1)
        gate.open()
    assert await other.space.get("k", MISSING) == "computed"
    assert one.cache.stats().overtaken == 0


async def test_a_front_that_lost_the_lease_costs_a_computation_and_never_brings_back_what_was_deleted(
    tiers: Tiers,
) -> None:
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        await tiers.drop(Scope(PATH), "k")
        await other.space.delete("k")
        gate.open()
    assert one.results == ["computed"]
    assert await other.space.get("k", MISSING) is MISSING


async def test_with_no_front_every_process_computes_for_itself(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    for process in (one, other):
        await process.cache.setup()
        process.front.down = True
    compute, gate = gated()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            await other.ask(Computation("its own"))
        gate.open()
    assert other.results == ["its own"]
    assert one.results == ["computed"] * 2
    assert compute.runs == 1


async def test_a_plain_write_during_the_computation_waits_for_nobody(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    compute, gate = gated()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            await other.space.set("k", "new")
            assert await other.space.get("k") == "new"
        gate.open()


class TestPatience:
    async def test_who_waits_no_longer_computes_as_well(self, tiers: Tiers) -> None:
        one, other = Process(tiers), Process(tiers)
        compute, gate = gated()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.ask, compute)
            await gate.reached()
            with anyio.fail_after(PATIENCE_SECONDS):
                await other.ask(Computation("impatient"), wait=0.05)
                await other.ask(Computation("impatient, too"), wait=0)  # there is a value by now
                await one.space.delete("k")
                await one.ask(Computation("at home"), wait=0)
            gate.open()
        assert other.results == ["impatient"] * 2
        assert one.results == ["at home", "computed"]

    @pytest.mark.parametrize("verb", ["set", "delete", "clear"])
    @pytest.mark.parametrize("leader", ["the same process", "another process"])
    async def test_who_waits_no_longer_overwrites_nobody(self, tiers: Tiers, verb: str, leader: str) -> None:
        one, other = Process(tiers), Process(tiers)
        leading, leading_gate = gated("leading")
        impatient, gate = gated("old knowledge")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon((one if leader == "the same process" else other).ask, leading)
            await leading_gate.reached()
            tasks.start_soon(partial(one.ask, impatient, wait=0.01))
            await gate.reached()
            await {
                "set": lambda: other.space.set("k", "new"),
                "delete": lambda: other.space.delete("k"),
                "clear": other.space.clear,
            }[verb]()
            gate.open()
            leading_gate.open()
        after = "new" if verb == "set" else MISSING
        assert [await process.space.get("k", MISSING) for process in (one, other)] == [after] * 2
        assert one.cache.stats().overtaken + other.cache.stats().overtaken == 2

    async def test_a_leader_of_the_same_process_is_waited_for_no_longer_either(self, tiers: Tiers) -> None:
        one = Process(tiers)
        compute, gate = gated()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.ask, compute)
            await gate.reached()
            with anyio.fail_after(PATIENCE_SECONDS):
                await one.ask(Computation("impatient"), wait=0.05)
            gate.open()
        assert one.results == ["impatient", "computed"]

    async def test_processes_that_compute_what_the_other_needs_do_not_wait_for_ever(self, tiers: Tiers) -> None:
        one, other = Process(tiers, lease_ttl=LEASE_SECONDS), Process(tiers, lease_ttl=LEASE_SECONDS)
        both = [anyio.Event(), anyio.Event()]

        def needing(process: Process, mine: int, needed: str) -> Callable[[], Any]:
            async def compute() -> str:
                both[mine].set()
                await both[1 - mine].wait()
                return f"with {await process.space.get_or_compute(needed, Computation('what I could'))}"

            return compute

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.space.get_or_compute, "a", needing(one, 0, "b"))
                tasks.start_soon(other.space.get_or_compute, "b", needing(other, 1, "a"))

    async def test_a_mark_that_somebody_left_behind_keeps_nobody_waiting_for_long(self, tiers: Tiers) -> None:
        """A reader's or a writer's: it expires only after `mark_ttl`, which is five minutes here."""
        dead, other = Process(tiers), Process(tiers)
        await dead.cache.setup()
        dead.front.fail("settle_read", "before")
        await dead.space.get("k")
        assert is_mark(await dead.cell() or b"")
        with anyio.fail_after(PATIENCE_SECONDS):
            await other.ask(Computation("computed"))
        assert other.results == ["computed"]

    @pytest.mark.parametrize("wait", [-1, "1", True, float("nan")])
    async def test_a_wrong_patience_is_refused_before_anything_is_computed(self, wait: Any) -> None:
        cache = TieredCache(MemoryFront(), DictStore())
        with pytest.raises(ConfigurationError, match="wait is a number of seconds"):
            await cache.get_or_compute("k", Computation(), wait=wait)


async def test_a_value_that_only_another_codec_can_read_is_computed_anew(tiers: Tiers) -> None:
    one = Process(tiers)
    await one.space.set("k", "for the plain codec")
    raw = one.cache.namespace(*PATH, codec=RawCodec())
    with anyio.fail_after(PATIENCE_SECONDS):
        assert await raw.get_or_compute("k", Computation(b"raw")) == b"raw"
    assert await raw.get("k") == b"raw"


async def test_after_a_clear_one_of_those_who_waited_computes_for_all(tiers: Tiers) -> None:
    one, *others = (Process(tiers) for _ in range(4))
    compute, gate = gated("old knowledge")
    anew = Computation("new")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        for other in others:
            tasks.start_soon(other.ask, anew)
        for other in others:
            await waits(other)
        await others[0].cache.namespace(*PATH).clear()
        gate.open()
    assert one.results == ["old knowledge"]
    assert [result for other in others for result in other.results] == ["new"] * 3
    assert anew.runs == 1
    assert await one.space.get("k") == "new"


async def test_a_crowd_with_a_key_each_shares_its_exchanges(tiers: Tiers) -> None:
    one = Process(tiers)
    await one.space.get("warm")
    one.front.calls.clear()
    one.store.calls.clear()
    async with anyio.create_task_group() as tasks:
        for n in range(200):
            tasks.start_soon(partial(one.space.get_or_compute, f"k{n}", Computation(n), ttl=60, grace=60))
    assert len(one.front.calls) < 60
    assert len(one.store.calls) < 20
    assert one.cache.stats().overtaken == 0
    assert await one.space.get("k7") == 7


async def test_what_a_computation_costs_the_front(tiers: Tiers) -> None:
    """Beside the miss and the write: taking the lease, and a look before storing whether anything has changed."""
    one = Process(tiers)
    await one.space.get("warm")
    one.front.calls.clear()
    await one.ask(Computation())
    names = [call.name for call in one.front.calls]
    assert names == ["get", "mark_read", "settle_read", "mark_read", "settle_read", "get", "mark_write", "settle_write"]
    one.front.calls.clear()
    await one.ask(Computation())
    assert [call.name for call in one.front.calls] == ["get"]


async def test_where_the_front_keeps_no_lease_at_all_results_are_stored_all_the_same(tiers: Tiers) -> None:
    """One that is lost is taken for a deletion. A front that loses each of them says nothing by it."""
    one = Process(tiers)
    stored: list[bool] = []
    for n in range(4):

        async def compute() -> int:
            await tiers.drop(Scope(PATH), "k")
            return n  # noqa: B023  (called within the round)

        assert await one.space.get_or_compute("k", compute) == n
        stored.append(await one.space.get("k", MISSING) == n)
        await one.space.delete("k")
    assert stored == [False, False, True, True]
    compute, gate = gated()
    gate.open()
    await one.ask(compute)  # keeps its lease
    await one.space.delete("k")
    assert one.cache.view.shared.engine.leases is not None
    assert one.cache.view.shared.engine.leases._gone == 0


async def test_in_time_of_grace_nobody_waits_for_another_process(tiers: Tiers) -> None:
    one, other = Process(tiers), Process(tiers)
    await one.ask(Computation("first"), ttl=0.3, grace=600)
    await eventually_gone(one)
    compute, gate = gated("second")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(one.ask, compute, ttl=600, grace=600))
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            await other.ask(Computation("never"), ttl=600, grace=600)
            await one.ask(Computation("never"), ttl=600, grace=600)
        gate.open()
    assert other.results == ["first"]
    assert one.results == ["first", "first", "second"]
    assert (one.cache.stats().stale, other.cache.stats().stale) == (1, 1)
    assert await other.space.get("k") == "second"


async def test_in_time_of_grace_a_failure_gives_the_expired_value(tiers: Tiers) -> None:
    one = Process(tiers)
    await one.ask(Computation("first"), ttl=0.3, grace=600)
    await eventually_gone(one)
    failing = Computation(LookupError("no answer"))
    await one.ask(failing, ttl=600, grace=600)
    assert one.results == ["first", "first"]
    assert failing.runs == 1
    with pytest.raises(LookupError):
        await one.ask(failing)
    one.results.clear()

    def compute() -> Any:
        raise LookupError("no answer")

    ask = partial(one.space.sync.get_or_compute, "k", compute, ttl=600, grace=600)
    assert await anyio.to_thread.run_sync(ask) == "first"
    await one.space.clear()
    with pytest.raises(LookupError):
        await one.ask(failing, ttl=600, grace=600)


async def eventually_gone(process: Process) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while await process.space.get("k", MISSING) is not MISSING:  # noqa: ASYNC110  (the store's clock)
            await anyio.sleep(0.05)


@pytest.mark.parametrize(("grace", "ttl", "said"), [(5, None, "give a ttl"), (0, 5, "above 0"), (-1, 5, "above 0")])
async def test_a_wrong_grace_is_refused_before_anything_is_computed(grace: float, ttl: Any, said: str) -> None:
    cache = TieredCache(MemoryFront(), DictStore())
    with pytest.raises(ConfigurationError, match=said):
        await cache.get_or_compute("k", Computation(), ttl=ttl, grace=grace)


async def test_reclaiming_what_was_cleared_takes_no_lease(tiers: Tiers) -> None:
    """As it happens after every clear: what was in the namespace is computed anew while the background removes it."""
    one, other = Process(tiers), Process(tiers)
    await one.space.set("k", "old")
    await one.space.get("k")
    await one.space.clear()
    compute, gate = gated("new")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.ask, compute)
        await gate.reached()
        while await other.cache.reclaim():
            pass
        gate.open()
    assert await other.space.get("k", MISSING) == "new"


async def test_a_result_that_cannot_be_stored_is_an_error_in_time_of_grace_too(tiers: Tiers) -> None:
    one = Process(tiers)
    await one.ask(Computation("first"), ttl=0.3, grace=600)
    await eventually_gone(one)
    with pytest.raises(UnsupportedValueError):
        await one.ask(Computation(object()), ttl=600, grace=600)


async def test_closing_waits_for_leases_that_are_leaving(tiers: Tiers) -> None:
    """Else their exchange would open what was closed."""
    one = Process(tiers)
    with suppress(LookupError):
        await one.ask(Computation(LookupError("no answer")))
    await one.cache.aclose()
    assert not is_mark(await one.cell() or b"")
    assert one.cache.view.shared.engine.leases is not None
    assert not one.cache.view.shared.engine.leases._under_way
