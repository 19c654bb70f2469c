"""P8 for what belongs to a loop: opened on it, its own, closed when it ends, and never touched by a forked child."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading

import anyio
import anyio.to_thread
import pytest

from tiered_cache._errors import ConfigurationError
from tiered_cache._loops import PerLoop

pytestmark = pytest.mark.anyio


class Thing:
    """Remembers the loop that it was opened on, and insists on being closed there."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.closed = 0

    async def aclose(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)  # closing a connection takes the loop a turn or two
        await self.may_close.wait()
        self.closed += 1


@pytest.fixture
def things() -> PerLoop[Thing]:
    return PerLoop(Thing, Thing.aclose)


async def get(things: PerLoop[Thing]) -> Thing:
    thing = things.get()
    await asyncio.sleep(0)
    assert things.get() is thing
    return thing


class OtherLoop:
    """A loop that runs in a thread of its own until told to end."""

    def __init__(self, things: PerLoop[Thing]) -> None:
        self._opened = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main([things]),))
        self._thread.start()
        assert self._opened.wait(10)

    async def _main(self, given: list[PerLoop[Thing]]) -> None:
        self.thing = given.pop().get()
        self._opened.set()
        await self._end.wait()

    def end(self) -> None:
        self.thing.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_each_loop_has_its_own_and_it_is_closed_when_the_loop_ends(things: PerLoop[Thing], uvloop: bool) -> None:
    had: list[Thing] = [anyio.run(get, things, backend_options={"use_uvloop": uvloop}) for _ in range(3)]
    assert len({id(thing) for thing in had}) == 3
    assert [thing.closed for thing in had] == [1, 1, 1]
    assert things._held == {}


def test_it_is_closed_too_when_the_loop_ends_by_an_error(things: PerLoop[Thing]) -> None:
    had: list[Thing] = []

    async def fail() -> None:
        had.append(things.get())
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(fail())
    assert had[0].closed == 1


def test_it_is_closed_too_when_the_loop_ends_under_a_task_that_uses_it(things: PerLoop[Thing]) -> None:
    had: list[Thing] = []

    async def use() -> None:
        had.append(things.get())
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())
    assert had[0].closed == 1


async def test_loops_in_two_threads_have_one_each_at_once(things: PerLoop[Thing]) -> None:
    others = [OtherLoop(things), OtherLoop(things)]
    had = [things.get(), *(other.thing for other in others)]
    assert len({id(thing) for thing in had}) == 3
    others[0].end()
    assert [thing.closed for thing in had] == [0, 1, 0]
    assert things.get() is had[0]
    others[1].end()
    await things.aclose()
    assert [thing.closed for thing in had] == [1, 1, 1]


async def test_closing_closes_all_on_their_own_loops_and_opens_anew(things: PerLoop[Thing]) -> None:
    other = OtherLoop(things)
    mine = things.get()
    await things.aclose()
    assert (mine.closed, other.thing.closed) == (1, 1)
    again = things.get()
    assert again is not mine
    await things.aclose()
    await things.aclose()
    assert (mine.closed, again.closed) == (1, 1)
    other.end()
    assert other.thing.closed == 1


async def test_two_that_close_at_once_close_everything_once(things: PerLoop[Thing]) -> None:
    other = OtherLoop(things)
    mine = things.get()
    mine.may_close.clear()

    async def close() -> None:
        try:
            await things.aclose()
        finally:
            mine.may_close.set()  # the second to close lets the first one end

    async with anyio.create_task_group() as closers:
        closers.start_soon(close)
        closers.start_soon(close)
    assert (mine.closed, other.thing.closed) == (1, 1)
    other.end()


async def test_a_loop_that_is_stuck_delays_closing_by_no_more_than_a_second(things: PerLoop[Thing]) -> None:
    other = OtherLoop(things)
    release = threading.Event()
    other.thing.loop.call_soon_threadsafe(release.wait)
    mine = things.get()
    with anyio.fail_after(5):
        await things.aclose()
    assert (mine.closed, other.thing.closed) == (1, 0)
    release.set()
    other.end()
    assert other.thing.closed == 1


async def test_what_is_dropped_on_a_running_loop_is_closed_without_the_garbage_collector() -> None:
    things = PerLoop(Thing, Thing.aclose)
    mine, other = things.get(), OtherLoop(things)
    gc.disable()
    try:
        del things
        await anyio.wait_all_tasks_blocked()
        assert mine.closed == 1
    finally:
        gc.enable()
        other.end()
    assert other.thing.closed == 1


async def test_closing_works_from_a_loop_that_never_asked(things: PerLoop[Thing]) -> None:
    await things.aclose()
    other = OtherLoop(things)
    await things.aclose()
    assert other.thing.closed == 1
    other.end()


async def test_closing_works_from_trio(things: PerLoop[Thing]) -> None:
    mine = things.get()
    await anyio.to_thread.run_sync(lambda: anyio.run(things.aclose, backend="trio"))
    assert mine.closed == 1


def test_on_trio_asking_is_refused_and_the_message_names_what_works_there(things: PerLoop[Thing]) -> None:
    with pytest.raises(ConfigurationError, match=r"asyncio.*memory://.*sqlite://"):
        anyio.run(get, things, backend="trio")


def test_without_any_loop_asking_is_refused(things: PerLoop[Thing]) -> None:
    with pytest.raises(ConfigurationError, match="asyncio"):
        things.get()


def test_a_loop_closed_without_ceremony_is_forgotten() -> None:
    """Nothing can be awaited on it any more; what it held is dropped when another loop asks."""

    class Plain:
        pass

    async def close(_: Plain) -> None:
        raise AssertionError("there is no loop left to close it on")

    async def ask() -> Plain:
        return plain.get()

    plain = PerLoop(Plain, close)
    loop, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    first = loop.run_until_complete(ask())
    loop.close()
    assert other.run_until_complete(ask()) is not first
    assert list(plain._held) == [other]
    other.close()
    plain._held.clear()
    gc.collect()


def test_what_opens_badly_leaves_nothing_behind() -> None:
    def fail() -> Thing:
        raise LookupError

    async def ask() -> None:
        for _ in range(2):
            with pytest.raises(LookupError):
                things.get()

    things = PerLoop(fail, Thing.aclose)
    asyncio.run(ask())
    assert things._held == {}


def test_a_forked_child_forgets_what_was_open_and_neither_uses_nor_closes_it() -> None:
    program = """
        import asyncio, os, sys
        from tiered_cache._loops import PerLoop

        closed = []

        class Thing:
            def __del__(self):
                closed.append("finalized")

        async def close(thing):
            closed.append("closed")

        things = PerLoop(Thing, close)

        async def main():
            mine = id(things.get())
            child = os.fork()
            if child == 0:
                empty = not things._held and not closed
                asyncio._set_running_loop(None)

                async def in_child():
                    return id(things.get()) != mine and len(things._held) == 1

                fresh = asyncio.run(in_child())
                os._exit(0 if empty and fresh and closed == ["closed", "finalized"] else 1)
            assert id(things.get()) == mine
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        code = asyncio.run(main())
        sys.exit(code or (0 if closed == ["closed", "finalized"] else 2))
    """
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], timeout=60, check=False)
    assert ran.returncode == 0
