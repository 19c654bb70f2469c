"""A state machine drives several engines over the same tiers, and a dict says what each read must return.

Every value that is written is a new one, so an older one is always recognized. One event loop is kept for each run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

import anyio
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.servers import redis_admin
from tiered_cache import MISSING, Front, MemoryFront, Namespace, Store, StoreUnavailableError, TieredCache
from tiered_cache._options import OptionsDict
from tiered_cache._redis import RedisFront
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore, When

Path = tuple[str, ...]

ENGINES = st.integers(0, 1)
PATHS = st.sampled_from([(), ("x",), ("x", "y"), ("x", "y", "z"), ("xy",), ("w",), ("x", "")])
KEYS = st.sampled_from(["a", "b", b"a", ""])
FAULTS = st.sampled_from(["mark_write", "settle_write", "write", "delete"])
TTLS = st.sampled_from([None, None, 1, 10, 30, 100])
NAMES = st.tuples(PATHS, KEYS)

OPTIONS = OptionsDict(
    front_timeout=30.0, store_timeout=30.0, mark_ttl=100.0, front_ttl=50.0, watermark_ttl=20.0, reclaim_rows=3
)


class Written(NamedTuple):
    value: int
    expires: float | None


class Machine(RuleBasedStateMachine):
    """The rules. A class below says what the tiers are, and what can happen to them."""

    front: Front
    store: Store
    now: float = 1000.0
    #: How long a second of the rules is.
    seconds: float = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal())
        self.base = (uuid4().hex,)
        self.model: dict[tuple[Path, str | bytes], Written] = {}
        self.written = 0
        self.open_tiers()
        self.fronts = [FaultyFront(self.front) for _ in range(2)]
        self.stores = [FaultyStore(self.store) for _ in range(2)]
        self.caches = [self.make_cache(engine) for engine in range(2)]

    def open_tiers(self) -> None:
        raise NotImplementedError

    def lose_front(self) -> None:
        raise NotImplementedError

    def make_cache(self, engine: int) -> TieredCache:
        cache = TieredCache(self.fronts[engine], self.stores[engine], **OPTIONS)
        cache.view.shared.engine.on_change = lambda _: None  # space is reclaimed by a rule, not in the background
        return cache

    # -- what is expected

    def new(self, path: Path, key: str | bytes, ttl: float | None) -> int:
        self.written += 1
        self.model[path, key] = Written(self.written, None if ttl is None else self.now + ttl)
        return self.written

    def ttl(self, ttl: float | None) -> float | None:
        return None if ttl is None else ttl * self.seconds

    def expected(self, path: Path, key: str | bytes) -> Any:
        written = self.model.get((path, key))
        if written is None or (written.expires is not None and written.expires <= self.now):
            return MISSING
        return written.value

    def below(self, path: Path) -> list[tuple[Path, str | bytes]]:
        return [name for name in self.model if name[0][: len(path)] == path]

    def space(self, engine: int, path: Path) -> Namespace:
        return self.caches[engine].namespace(*self.base, *path, listed=True)

    def run(self, *calls: Callable[[], Any]) -> list[Any]:
        """Makes these calls at once; their results."""

        async def main() -> list[Any]:
            results: list[Any] = [None] * len(calls)

            async def one(i: int) -> None:
                results[i] = await calls[i]()

            async with anyio.create_task_group() as tasks:
                for i in range(len(calls)):
                    tasks.start_soon(one, i)
            return results

        return self.portal.call(main)

    def read(self, engine: int, path: Path, key: str | bytes) -> Any:
        return self.run(lambda: self.space(engine, path).get(key, MISSING))[0]

    # -- rules

    @rule(engine=ENGINES, path=PATHS, key=KEYS, ttl=TTLS)
    def set(self, engine: int, path: Path, key: str | bytes, ttl: float | None) -> None:
        value = self.new(path, key, ttl)
        self.run(lambda: self.space(engine, path).set(key, value, ttl=self.ttl(ttl)))

    @rule(engine=ENGINES, path=PATHS, keys=st.sets(KEYS), ttl=TTLS)
    def set_many(self, engine: int, path: Path, keys: set[str | bytes], ttl: float | None) -> None:
        items = {key: self.new(path, key, ttl) for key in keys}
        self.run(lambda: self.space(engine, path).set_many(items, ttl=self.ttl(ttl)))

    @rule(engine=ENGINES, path=PATHS, key=KEYS)
    def get(self, engine: int, path: Path, key: str | bytes) -> None:
        assert self.read(engine, path, key) == self.expected(path, key)

    @rule(engine=ENGINES, path=PATHS, keys=st.lists(KEYS))
    def get_many(self, engine: int, path: Path, keys: list[str | bytes]) -> None:
        expected = {key: self.expected(path, key) for key in keys}
        (found,) = self.run(lambda: self.space(engine, path).get_many(keys))
        assert found == {key: value for key, value in expected.items() if value is not MISSING}

    @rule(wanted=st.lists(st.tuples(ENGINES, PATHS, KEYS), max_size=12))
    def get_together(self, wanted: list[tuple[int, Path, str | bytes]]) -> None:
        found = self.run(*[partial(self.space(engine, path).get, key, MISSING) for engine, path, key in wanted])
        assert found == [self.expected(path, key) for _, path, key in wanted]

    @rule(engine=ENGINES, path=PATHS, key=KEYS)
    def get_without_the_front(self, engine: int, path: Path, key: str | bytes) -> None:
        self.fronts[engine].down = True
        assert self.read(engine, path, key) == self.expected(path, key)
        self.fronts[engine].down = False

    @rule(engine=ENGINES, path=PATHS, keys=st.sets(KEYS, min_size=1))
    def delete_many(self, engine: int, path: Path, keys: set[str | bytes]) -> None:
        for key in keys:
            self.model.pop((path, key), None)
        self.run(lambda: self.space(engine, path).delete_many(keys))

    @rule(engine=ENGINES, path=PATHS)
    def clear(self, engine: int, path: Path) -> None:
        for name in self.below(path):
            del self.model[name]
        self.run(lambda: self.space(engine, path).clear())

    @rule(engine=ENGINES, path=PATHS)
    def erase(self, engine: int, path: Path) -> None:
        valid = [name for name in self.below(path) if self.expected(*name) is not MISSING]
        for name in self.below(path):
            del self.model[name]
        (erased,) = self.run(lambda: self.space(engine, path).erase())
        assert erased >= len(valid)

    @rule(engine=ENGINES)
    def reclaim(self, engine: int) -> None:
        while self.run(self.caches[engine].reclaim)[0]:
            pass

    @rule(engine=ENGINES, path=PATHS, key=KEYS, ttl=TTLS)
    def get_or_compute(self, engine: int, path: Path, key: str | bytes, ttl: float | None) -> None:
        expected = self.expected(path, key)
        value = self.new(path, key, ttl) if expected is MISSING else expected

        async def compute() -> int:
            assert expected is MISSING, "computed what was there"
            return value

        calls = [lambda: self.space(engine, path).get_or_compute(key, compute, ttl=self.ttl(ttl))] * 3
        before = self.caches[engine].stats().overtaken
        assert self.run(*calls) == [value] * 3
        if self.caches[engine].stats().overtaken > before:  # the front was too small to keep the lease
            del self.model[path, key]

    @rule(engine=ENGINES, path=PATHS, prefix=st.sampled_from(["", "a", b""]))
    def list_keys(self, engine: int, path: Path, prefix: Any) -> None:
        async def listed() -> set[str | bytes]:
            return {key async for key in self.space(engine, path).keys(prefix)}

        there = {key for at, key in self.model if at == path and self.expected(at, key) is not MISSING}
        assert self.run(listed)[0] == {k for k in there if type(k) is type(prefix) and k.startswith(prefix)}

    @rule(name=NAMES)
    def set_by_both_at_once(self, name: tuple[Path, str | bytes]) -> None:
        path, key = name
        one, other = self.new(path, key, None), self.new(path, key, None)
        self.run(lambda: self.space(0, path).set(key, one), lambda: self.space(1, path).set(key, other))
        self.settle_on(name, (one, other))

    @rule(engine=ENGINES, name=NAMES)
    def set_and_clear_at_once(self, engine: int, name: tuple[Path, str | bytes]) -> None:
        path, key = name
        for each in self.below(path):
            del self.model[each]
        value = self.new(path, key, None)
        self.run(lambda: self.space(engine, path).set(key, value), self.space(1 - engine, path).clear)
        self.settle_on(name, (value, MISSING))

    @rule(engine=ENGINES, name=NAMES)
    def set_and_get_at_once(self, engine: int, name: tuple[Path, str | bytes]) -> None:
        path, key = name
        before, value = self.expected(path, key), self.new(path, key, None)
        _, *seen = self.run(
            lambda: self.space(engine, path).set(key, value),
            *[partial(self.space(each, path).get, key, MISSING) for each in (0, 1, 0, 1)],
        )
        assert set(seen) <= {before, value}
        self.settle_on(name, (value,))

    @rule(engine=ENGINES, name=NAMES, deleting=st.booleans(), call=FAULTS, when=st.sampled_from(["before", "after"]))
    def change_with_one_fault(
        self, engine: int, name: tuple[Path, str | bytes], deleting: bool, call: str, when: When
    ) -> None:
        """One exchange fails, or was taken and its answer is lost."""
        path, key = name
        written, before = self.model.get(name), self.expected(path, key)
        value = MISSING if deleting else self.new(path, key, None)
        space, tier = self.space(engine, path), self.fronts[engine] if "_" in call else self.stores[engine]
        tier.fail(call, when)

        async def change() -> bool:
            with suppress(StoreUnavailableError):
                await (space.delete(key) if deleting else space.set(key, value))
                return True
            return False

        (done,) = self.run(change)
        tier.forget_plans()
        self.settle_on(name, (value,) if done else (before, value), written)

    @rule(engine=ENGINES, name=NAMES, when=st.sampled_from(["before", "after"]))
    def set_by_a_caller_who_is_cancelled(self, engine: int, name: tuple[Path, str | bytes], when: When) -> None:
        path, key = name
        written, before, value = self.model.get(name), self.expected(path, key), self.new(path, key, None)

        async def set_and_be_cancelled() -> None:
            gate = self.stores[engine].stop("write", when)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.space(engine, path).set, key, value)
                await gate.reached()
                tasks.cancel_scope.cancel()
                gate.open()

        self.run(set_and_be_cancelled)
        self.settle_on(name, (before, value), written)

    def settle_on(
        self, name: tuple[Path, str | bytes], possible: tuple[Any, ...], before: Written | None = None
    ) -> None:
        """Which of the changes came last, or whether one came at all, is for the store to say. From now on it is so."""
        value = self.read(0, *name)
        assert value in possible
        self.model.pop(name, None)
        if before is not None and value == before.value:
            self.model[name] = before
        elif value is not MISSING:
            self.model[name] = Written(value, None)

    @rule(engine=ENGINES)
    def restart(self, engine: int) -> None:
        self.caches[engine] = self.make_cache(engine)

    @rule()
    def lose_all_cells(self) -> None:
        self.lose_front()

    def teardown(self) -> None:
        try:
            for _ in range(2):
                for path, key in list(self.model):
                    for engine in (0, 1):
                        assert self.read(engine, path, key) == self.expected(path, key)
                self.lose_front()
            self.portal.call(self.store.aclose)
        finally:
            self.stack.close()


class EmbeddedMachine(Machine):
    """Time passes; the front forgets on request, and where it is small, all the time."""

    def open_tiers(self) -> None:
        self.memory = self.front = MemoryFront(clock=lambda: self.now)
        self.store = SqlStore("sqlite://", clock=lambda: self.now + 1_700_000_000)

    def lose_front(self) -> None:
        self.memory.forget()

    @rule(seconds=st.sampled_from([0.5, 1, 9.5, 20, 60]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(max_bytes=st.sampled_from([1500, 4000, 1_000_000]))
    def bound(self, max_bytes: int) -> None:
        self.memory._max_bytes = max_bytes

    @rule(every=st.integers(1, 3), offset=st.integers(0, 2))
    def lose_some_cells(self, every: int, offset: int) -> None:
        for key in sorted(self.memory._cells)[offset::every]:
            self.memory._drop(key)


class ServersMachine(Machine):
    seconds = 1e6  # the clocks are real here, and nothing expires within a run
    redis_url = ""
    postgres_url = ""

    def open_tiers(self) -> None:
        self.front = RedisFront(self.redis_url, timeout=30)
        self.store = SqlStore(self.postgres_url, timeout=30)

    def lose_front(self) -> None:
        with redis_admin(self.redis_url) as client:
            client.flushdb()

    @rule(every=st.integers(1, 3), offset=st.integers(0, 2))
    def lose_some_cells(self, every: int, offset: int) -> None:
        with redis_admin(self.redis_url) as client:
            keys: Any = client.keys("*")
            for key in sorted(keys)[offset::every]:
                client.delete(key)


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def test_embedded_engines_agree_with_a_dict() -> None:
    run_state_machine_as_test(
        EmbeddedMachine,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=SLOW),
    )


def test_engines_on_redis_and_postgresql_agree_with_a_dict(redis_url: str, postgres_url: str) -> None:
    class OnThese(ServersMachine):
        pass

    OnThese.redis_url, OnThese.postgres_url = redis_url, postgres_url
    run_state_machine_as_test(
        OnThese, settings=settings(max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=SLOW)
    )
