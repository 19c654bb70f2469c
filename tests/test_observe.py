"""Observers: one immutable fact for each operation of a caller, whatever exchanges it shared, and nothing secret."""

from __future__ import annotations

from contextvars import ContextVar, Token
from functools import partial
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from tests.doubles import Computation, DictStore
from tiered_cache import (
    ConfigurationError,
    MemoryFront,
    Namespace,
    Operation,
    RawCodec,
    StoreUnavailableError,
    TieredCache,
    UnsupportedValueError,
)
from tiered_cache._observe import NOBODY, OperationName
from tiered_cache.testing import FaultyFront, FaultyStore, Gate, ManualClock
from tiered_cache.testing._gates import PATIENCE_SECONDS

pytestmark = pytest.mark.every_backend

# Whose call it is, as the caller knows it; and the operation that is under way, as an observer marks it.
caller: ContextVar[str] = ContextVar("caller", default="nobody")
operation: ContextVar[str] = ContextVar("operation", default="none")


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(DictStore())


@pytest.fixture
def front() -> FaultyFront:
    return FaultyFront(MemoryFront())


@pytest.fixture
def cache(front: FaultyFront, store: FaultyStore) -> TieredCache:
    return TieredCache(front, store, front_timeout=PATIENCE_SECONDS)


@pytest.fixture
def told(cache: TieredCache) -> list[Operation]:
    told: list[Operation] = []
    cache.observe(told.append)
    return told


class Marking:
    """Marks, for all that an operation does, which it is; and notes in whose context it was told of both ends."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def begin(self, name: OperationName, namespace: tuple[str, ...], keys: int) -> Token[str]:
        self.seen.append((f"begin {name}", caller.get()))
        return operation.set(name)

    def end(self, begun: Token[str], what: Operation) -> None:
        operation.reset(begun)
        self.seen.append((f"end {what.name}", caller.get()))


def finds(operations: list[Operation]) -> tuple[int, int, int]:
    front, store, missing = zip(*((each.hits_front, each.hits_store, each.misses) for each in operations), strict=True)
    return sum(front), sum(store), sum(missing)


def counted(cache: TieredCache) -> tuple[int, int, int]:
    stats = cache.stats()
    return stats.hits_front, stats.hits_store, stats.misses


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_each_verb_is_one_operation_however_many_keys_it_has(cache: TieredCache, told: list[Operation]) -> None:
    space = cache.namespace("a", "b")
    await space.set("k", 1)
    await space.set_many({"l": 2, "m": 3})
    await space.get("k")
    await space.get_many(["k", "l", "x"])
    await space.delete_many(["k", "l"])
    await space.clear()
    await space.erase()
    await space.get_or_compute("n", Computation())
    assert [(each.name, each.keys, *each[3:6]) for each in told] == [
        ("set", 1, 0, 0, 0),
        ("set", 2, 0, 0, 0),
        ("get", 1, 1, 0, 0),
        ("get", 3, 2, 0, 1),
        ("delete", 2, 0, 0, 0),
        ("clear", 0, 0, 0, 0),
        ("erase", 0, 0, 0, 0),
        ("get_or_compute", 1, 0, 0, 1),
    ]
    assert {(each.namespace, each.outcome) for each in told} == {(("a", "b"), "ok")}


async def test_what_asks_for_nothing_is_no_operation(cache: TieredCache, told: list[Operation]) -> None:
    await cache.get_many([])
    await cache.set_many({})
    await cache.delete_many([])
    with pytest.raises(UnsupportedValueError):
        await cache.set("k", object())
    with pytest.raises(ConfigurationError):
        await cache.get_or_compute("k", Computation(), wait=-1)
    assert told == []


async def test_the_duration_is_that_of_the_caller(cache: TieredCache, told: list[Operation]) -> None:
    clock = ManualClock()
    cache.view.shared.observers._clock = clock

    async def compute() -> int:
        clock.advance(7.5)
        return 1

    await cache.get_or_compute("k", compute)
    await cache.get("k")
    assert [each.seconds for each in told] == [7.5, 0.0]


async def test_keys_of_several_namespaces_are_one_operation_of_what_is_above_them_all(
    cache: TieredCache, told: list[Operation]
) -> None:
    views = [cache.namespace(*path).view for path in (("a", "b", "c"), ("a", "b"), ("a", "bc"))]
    shared = cache.view.shared
    await shared.delete([view.scope.key("k") for view in views[:2]])
    await shared.delete([view.scope.key("k") for view in views])
    await shared.delete([views[0].scope.key("k"), views[0].scope.key("l")])
    assert [each.namespace for each in told] == [("a", "b"), ("a",), ("a", "b", "c")]


async def test_hits_of_both_tiers_are_told_apart_and_their_sums_are_those_of_stats(
    cache: TieredCache, front: FaultyFront, told: list[Operation]
) -> None:
    await cache.set_many({"a": 1, "b": 2})
    assert isinstance(front.inner, MemoryFront)
    await front.inner.aclose()  # forgets everything
    await cache.get_many(["a", "x"])
    await cache.get_many(["a", "b", "x"])
    assert [each[3:6] for each in told[1:]] == [(0, 1, 1), (1, 1, 1)]
    assert finds(told) == counted(cache)


async def test_a_payload_that_cannot_be_read_is_a_miss(cache: TieredCache, told: list[Operation]) -> None:
    await cache.set("k", 1)
    await cache.namespace(codec=RawCodec()).get("k")
    assert finds(told) == counted(cache) == (0, 0, 1)


async def test_of_64_callers_who_share_a_batch_each_is_told_of(
    cache: TieredCache, store: FaultyStore, told: list[Operation]
) -> None:
    await cache.set_many({f"k{n}": n for n in range(0, 64, 2)})
    async with anyio.create_task_group() as tasks:
        for n in range(64):
            tasks.start_soon(cache.namespace().get, f"k{n}")
    gets = told[1:]
    assert len(gets) == 64
    assert sorted(each[3:6] for each in gets) == [(0, 0, 1)] * 32 + [(1, 0, 0)] * 32
    assert store.count("read") < 64
    assert finds(gets) == counted(cache)


async def test_a_key_or_a_value_is_in_nothing_that_is_told(cache: TieredCache, told: list[Operation]) -> None:
    space = cache.namespace("n")
    await space.set("secret-key", "secret-value")
    await space.get_many(["secret-key"])
    await space.get_or_compute("secret-other", Computation("secret-value"))
    with pytest.raises(LookupError):
        await space.get_or_compute("secret-third", Computation(LookupError("secret-prompt")))
    await space.delete("secret-key")
    assert len(told) == 5
    assert "secret" not in repr(told)


# --- get_or_compute ---------------------------------------------------------------------------------------------------


async def test_who_computes_and_who_is_given_the_result_is_told(cache: TieredCache, told: list[Operation]) -> None:
    gate = Gate()
    compute = Computation(gate=gate)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(partial(cache.get_or_compute, "k", compute))
        await gate.reached()
        await anyio.wait_all_tasks_blocked()
        gate.open()
    await cache.get_or_compute("k", compute)
    assert sorted(each.computation for each in told) == [(), ("computed",), ("joined",), ("joined",)]
    assert told[-1][3:6] == (1, 0, 0)
    assert finds(told) == counted(cache)
    assert {each.name for each in told} == {"get_or_compute"}


async def test_a_result_that_was_overtaken_is_told(cache: TieredCache, told: list[Operation]) -> None:
    async def compute() -> int:
        await cache.set("k", 2)
        return 1

    await cache.get_or_compute("k", compute)
    assert [(each.name, each.computation) for each in told] == [
        ("set", ()),
        ("get_or_compute", ("computed", "overtaken")),
    ]


async def test_a_stale_value_is_told_and_is_no_error_where_computing_failed() -> None:
    now = 0.0
    cache = TieredCache(FaultyFront(MemoryFront(clock=lambda: now / 1000)), DictStore(lambda: now), front_timeout=20)
    told: list[Operation] = []
    await cache.get_or_compute("k", Computation("old"), ttl=1, grace=60)
    cache.observe(told.append)
    now += 2000
    assert await cache.get_or_compute("k", Computation(LookupError("away")), ttl=1, grace=60) == "old"
    assert [(each.outcome, each.computation) for each in told] == [("ok", ("stale",))]


async def test_who_waited_for_another_process_is_told_of_and_counts_both_its_looks(store: FaultyStore) -> None:
    front = MemoryFront()
    one, other = (TieredCache(FaultyFront(front), store, front_timeout=PATIENCE_SECONDS) for _ in range(2))
    told: list[Operation] = []
    other.observe(told.append)
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.get_or_compute, "k", Computation(gate=gate))
        await gate.reached()
        tasks.start_soon(other.get_or_compute, "k", Computation("never"))
        with anyio.fail_after(PATIENCE_SECONDS):
            while not other.stats().waited:  # noqa: ASYNC110  (counters tell nobody)
                await anyio.sleep(0.002)
        gate.open()
    assert [(each.computation, each.outcome) for each in told] == [(("waited",), "ok")]
    assert finds(told) == counted(other)
    assert told[0].hits_front + told[0].hits_store == 1


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_an_error_is_told_by_the_name_of_its_class(
    cache: TieredCache, store: FaultyStore, told: list[Operation]
) -> None:
    await cache.set("k", 1)
    await cache.get("k")  # from now on the last clear is known, and the front is believed without the store
    store.down = True
    for call in (cache.get("x"), cache.get_many(["k", "x"]), cache.set("k", 2), cache.delete("k"), cache.clear()):
        with pytest.raises(StoreUnavailableError):
            await call
    assert [each.outcome for each in told] == ["ok"] * 2 + ["StoreUnavailableError"] * 5
    assert told[3].hits_front == 1
    assert finds(told) == counted(cache)


async def test_an_error_that_a_call_got_over_is_none(cache: TieredCache, store: FaultyStore) -> None:
    lenient = TieredCache(FaultyFront(MemoryFront()), store, front_timeout=PATIENCE_SECONDS, serve_miss=True)
    told: list[Operation] = []
    for each in (cache, lenient):
        await each.setup()
        each.observe(told.append)
    store.down = True
    assert await lenient.get("x") is None
    assert await cache.get_or_compute("x", Computation()) == "computed"
    assert [(each.name, each.outcome) for each in told] == [("get", "ok"), ("get_or_compute", "ok")]


async def test_what_compute_raises_is_told_by_its_class(cache: TieredCache, told: list[Operation]) -> None:
    with pytest.raises(LookupError):
        await cache.get_or_compute("k", Computation(LookupError("no answer")))
    assert [(each.outcome, each.computation) for each in told] == [("LookupError", ())]


@pytest.mark.parametrize("verb", ["get", "get_or_compute"])
async def test_a_cancelled_operation_is_told(
    cache: TieredCache, store: FaultyStore, told: list[Operation], verb: str
) -> None:
    gate = Gate()
    call = partial(cache.get_or_compute, "k", Computation(gate=gate))
    if verb == "get":
        gate, call = store.stop("read"), partial(cache.get, "k")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await gate.reached()
        tasks.cancel_scope.cancel()
    assert [(each.name, each.outcome) for each in told] == [(verb, "cancelled")]


class Failing:
    def __init__(self, at: str) -> None:
        self._at = at

    def begin(self, *_: object) -> None:
        if self._at == "begin":
            raise LookupError("at the beginning")

    def end(self, *_: object) -> None:
        raise LookupError("at the end")


@pytest.mark.parametrize("at", ["begin", "end"])
async def test_an_observer_that_raises_is_logged_and_disturbs_neither_the_caller_nor_the_others(
    cache: TieredCache, told: list[Operation], caplog: pytest.LogCaptureFixture, at: str
) -> None:
    others: list[Operation] = []
    cache.observe(Failing(at))
    cache.observe(others.append)
    await cache.set("k", 1)
    assert await cache.get("k") == 1
    assert [each.name for each in told] == ["set", "get"]
    assert others == told
    assert [(record.name, record.levelname) for record in caplog.records] == [("tiered_cache", "ERROR")] * 2


async def test_a_defect_of_an_observer_does_not_hide_the_callers_error(cache: TieredCache, store: FaultyStore) -> None:
    cache.observe(Failing("end"))
    store.down = True
    with pytest.raises(StoreUnavailableError):
        await cache.get("k")


# --- who is told ------------------------------------------------------------------------------------------------------


async def test_an_observer_is_told_until_it_is_removed(cache: TieredCache, told: list[Operation]) -> None:
    twice: list[Operation] = []
    first, second = cache.observe(twice.append), cache.observe(twice.append)
    await cache.get("k")
    first()
    first()
    await cache.get("k")
    second()
    await cache.get("k")
    assert (len(twice), len(told)) == (3, 3)


async def test_who_was_told_of_the_beginning_is_told_of_the_end(cache: TieredCache, store: FaultyStore) -> None:
    early, late = Marking(), Marking()
    remove = cache.observe(early)
    gate = store.stop("read")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get, "k")
        await gate.reached()
        remove()
        cache.observe(late)
        gate.open()
    assert ([what for what, _ in early.seen], late.seen) == (["begin get", "end get"], [])


def test_what_is_no_observer_is_refused(cache: TieredCache) -> None:
    with pytest.raises(ConfigurationError, match="begin and end"):
        cache.observe(cast("Any", "log"))


@pytest.fixture
def no_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("somebody watches, and nobody looks")

    for name in ("_Watched", "Operation", "_above_all"):
        monkeypatch.setattr(f"tiered_cache._observe.{name}", fail)
    monkeypatch.setattr("tiered_cache._view.find_across", fail)
    monkeypatch.setattr("tiered_cache._view._find", fail)


async def test_without_observers_nothing_is_made_for_them(cache: TieredCache, no_watching: None) -> None:
    await cache.set("k", 1)
    assert await cache.get("k") == 1
    assert await cache.get_many(["k", "x"]) == {"k": 1}
    assert await cache.get_or_compute("c", Computation()) == "computed"
    await cache.delete("k")
    await cache.clear()
    await cache.erase()
    assert cache.view.shared.observers.operation("get", ()) is NOBODY


# --- in whose context -------------------------------------------------------------------------------------------------


async def test_what_an_observer_sets_at_the_beginning_is_seen_within_and_not_after(cache: TieredCache) -> None:
    for _ in range(2):  # who set something last has to be the first to take it back
        cache.observe(Marking())
    inside: list[str] = []

    async def compute() -> int:
        inside.append(operation.get())
        await cache.get("other")
        inside.append(operation.get())
        return 1

    await cache.get_or_compute("k", compute)
    assert inside == ["get_or_compute"] * 2
    assert operation.get() == "none"


async def test_observers_begin_in_the_order_in_which_they_came_and_end_in_the_other(cache: TieredCache) -> None:
    ends: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self._name = name

        def begin(self, name: OperationName, namespace: tuple[str, ...], keys: int) -> None:
            ends.append(f"begin {self._name}")

        def end(self, begun: None, what: Operation) -> None:
            ends.append(f"end {self._name}")

    for name in "abc":
        cache.observe(Named(name))
    await cache.get("k")
    assert ends == ["begin a", "begin b", "begin c", "end c", "end b", "end a"]


async def test_each_of_those_who_share_a_batch_is_told_of_in_its_own_context(cache: TieredCache) -> None:
    marking = Marking()
    cache.observe(marking)

    async def ask(name: str) -> None:
        caller.set(name)
        await cache.get("k")
        assert operation.get() == "none"

    async with anyio.create_task_group() as tasks:
        for n in range(8):
            tasks.start_soon(ask, f"caller {n}")
    assert sorted(marking.seen) == sorted((what, f"caller {n}") for n in range(8) for what in ("begin get", "end get"))


def use_synchronously(space: Namespace, inside: list[str]) -> None:
    def compute() -> int:
        inside.append(operation.get())
        return 1

    space.sync.set("k", 1)
    space.sync.get("k")
    space.sync.get_or_compute("c", compute)
    assert operation.get() == "none"


@pytest.mark.parametrize("where", ["on a thread", "in a running loop"])
async def test_synchronous_calls_carry_their_context(cache: TieredCache, where: str) -> None:
    marking, inside = Marking(), list[str]()
    cache.observe(marking)
    token = caller.set(where)
    if where == "on a thread":
        await anyio.to_thread.run_sync(use_synchronously, cache, inside)
    else:
        use_synchronously(cache, inside)
    caller.reset(token)
    assert marking.seen == [
        (f"{end} {name}", where) for name in ("set", "get", "get_or_compute") for end in ("begin", "end")
    ]
    assert inside == ["get_or_compute"]
