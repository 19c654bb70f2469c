"""Equal questions asked at once in several processes cost one call of the model."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, closing
from queue import Queue
from threading import Thread
from typing import Any

import anyio
import pytest

from tests.langchain.flights import FOR_EVER, Chat, left_behind
from tests.scripts import assert_ends_without_a_word
from tests.test_fork import in_a_child
from tests.waiting import until, until_sync
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.testing import Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS

LEASE_SECONDS = 1.5
"""Longer than a shared machine stalls: a lease that is renewed in time is never lost."""

SHARED = pytest.mark.parametrize("world", ["servers", "fake"], indirect=True)


class Asker:
    """`tests.langchain.asker`, in a process of its own."""

    def __init__(self, world: World) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.langchain.asker", world.front, world.store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line.strip())

    def says(self) -> str:
        return self._said.get(timeout=3 * PATIENCE_SECONDS)  # it imports a lot first

    def tell(self, line: str) -> None:
        print(line, file=self.process.stdin, flush=True)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def askers(world: World) -> Generator[Any]:
    with ExitStack() as exits:

        def start() -> Asker:
            asker = Asker(world)
            exits.callback(asker.end)
            return asker

        yield start


@pytest.mark.parametrize("world", ["servers"], indirect=True)
class TestProcesses:
    def test_of_two_one_asks_the_model(self, askers: Any) -> None:
        one = askers()
        assert one.says() == "computing"
        other = askers()
        assert other.says() == "waiting"
        one.tell("go")
        assert one.says() == other.says() == "q #1"

    @pytest.mark.parametrize("end", ["killed", "failed"])
    def test_another_goes_on_where_the_one_was_killed_or_failed(self, askers: Any, end: str) -> None:
        one = askers()
        assert one.says() == "computing"
        other = askers()
        assert other.says() == "waiting"
        if end == "killed":
            one.process.kill()
        else:
            one.tell("fail")
            assert one.says() == "failed"
        assert other.says() == "computing"
        other.tell("go")
        assert other.says() == "q #1"


class Process:
    """As good as one: a cache of its own on the same tiers."""

    def __init__(self, world: World, seconds: float = FOR_EVER, *, first: bool = False) -> None:
        self.cache = TieredCache(
            world.front if first else world.other_front(), world.store, front_timeout=5, lease_ttl=LEASE_SECONDS
        )
        self.answers = LangChainCache(self.cache, single_flight=seconds)
        self.gate = Gate()
        self.found: list[str] = []
        self.llm = Chat(cache=self.answers, work=self._work)

    async def _work(self, question: str, nth: int) -> None:
        await self.gate.wait()

    async def ask(self) -> None:
        self.found.append((await self.llm.ainvoke("q")).text)

    @property
    def calls(self) -> int:
        return self.llm.log.calls.total()


@SHARED
class TestLeases:
    async def test_keep_the_others_waiting_for_as_long_as_the_model_takes(self, world: World) -> None:
        one, other = Process(world, first=True), Process(world)
        async with one.cache, other.cache, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(one.ask)
            await one.gate.reached()
            for _ in range(3):
                tasks.start_soon(other.ask)
            await until(lambda: other.cache.stats().waited == 1)
            await anyio.sleep(LEASE_SECONDS + 0.5)  # longer than a lease lives that nobody renews
            assert other.found == []
            one.gate.open()
        assert one.found + other.found == ["q #1"] * 5
        assert (one.calls, other.calls) == (1, 0)
        for process in (one, other):
            assert not left_behind(process.cache, process.answers)

    async def test_end_with_a_leader_that_is_cancelled(self, world: World) -> None:
        one, other = Process(world, first=True), Process(world)
        async with one.cache, other.cache, anyio.create_task_group() as tasks, anyio.create_task_group() as leader:
            leader.start_soon(one.ask)
            await one.gate.reached()
            tasks.start_soon(other.ask)
            await until(lambda: other.cache.stats().waited == 1)
            other.gate.open()
            leader.cancel_scope.cancel()
        assert other.found == ["q #1"]
        assert not left_behind(one.cache, one.answers)

    async def test_are_waited_for_no_longer_than_the_limit(self, world: World) -> None:
        one, other = Process(world, first=True), Process(world, 0.05)
        other.gate.open()
        async with one.cache, other.cache, anyio.create_task_group() as tasks:
            tasks.start_soon(one.ask)
            await one.gate.reached()
            with anyio.fail_after(PATIENCE_SECONDS):
                await other.ask()
            assert (one.calls, other.calls) == (1, 1)
            one.gate.open()

    async def test_that_are_never_dropped_end_with_the_limit(self, world: World) -> None:
        one, other = Process(world, 0.05, first=True), Process(world)
        other.gate.open()
        async with one.cache, other.cache:
            kept = await one.answers.alookup("q", "m")
            with anyio.fail_after(PATIENCE_SECONDS):
                assert await other.answers.alookup("q", "m") == ()
        assert kept == ()


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_ends_no_lead_of_its_parents(world: World) -> None:
    with closing(TieredCache(world.front, world.store)) as cache:
        answers = LangChainCache(cache, single_flight=FOR_EVER)
        miss = [answers.lookup("q", "m")]

        def child() -> None:
            assert not left_behind(cache, answers)
            assert answers.lookup("another", "m") == ()  # its own background is running
            miss.clear()
            gc.collect()
            assert answers.lookup("q", "m") == ()

        in_a_child(child)
        assert left_behind(cache, answers)
        miss.clear()
        until_sync(lambda: not left_behind(cache, answers))


def test_a_program_that_ends_with_a_miss_in_its_hands_ends_without_a_word(sqlite_url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from tiered_cache import TieredCache\n"
        "from tiered_cache.langchain import LangChainCache\n"
        "answers = LangChainCache(TieredCache('memory://', sys.argv[1]), single_flight=600)\n"
        "first = answers.lookup('q', 'm')\n"
        "second = asyncio.run(answers.alookup('r', 'm'))\n"
        "sys.cycle = [first, second]; sys.cycle.append(sys.cycle)\n"
    )
    assert_ends_without_a_word(script, sqlite_url)
