"""What every front promises."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio
import anyio.to_thread

from tiered_cache._errors import FrontUnavailableError
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from tiered_cache._tiers import Front

from ._clock import ManualClock
from ._entries import refused
from ._front_rule import RuleSuite
from ._table import HIS, MARK_TTL, MINE

_BINARY: Final = b"V\0\xff\r\n$-1\r\n" + bytes(range(256))
_PATIENCE_SECONDS: Final = 20.0


async def _put(front: Front, key: bytes, cell: bytes, ttl: int = 60_000) -> None:
    await front.apply([Step(MARK_WRITE, key)], HIS, MARK_TTL)
    assert list(await front.apply([Step(SETTLE_WRITE, key, cell, ttl)], HIS, MARK_TTL)) == [True]


class FrontSuite(RuleSuite):
    """Tests for a front of one's own: what the protocol promises, and the rule row by row and under random steps.

    Subclass it in a test module under a name that pytest collects, and say how a front is made. The tests are `async`
    and run by anyio's pytest plugin: set `anyio_mode = "auto"`, or `pytestmark = pytest.mark.anyio` in the module.

        class TestMyFront(FrontSuite):
            @asynccontextmanager
            async def front(self):
                front = MyFront("...")
                yield front
                await front.aclose()

    For failures that show both sides of a comparison, put this into conftest.py, above all imports of this package:

        pytest.register_assert_rewrite("tiered_cache.testing")
    """

    #: Where time can be injected: the clock of the front that `front` makes. Expiry is then tested to the millisecond.
    clock: ManualClock | None = None

    def front(self) -> AbstractAsyncContextManager[Front]:
        """A front that holds nothing, open for the length of one test."""
        raise NotImplementedError("say how a front is made: an async context manager that yields an empty one")

    async def left(self, front: Front, key: bytes) -> int | None:
        """How many milliseconds the cell of `key` has to live, as the server behind the front tells. None: unknown."""
        return None

    def unreachable(self) -> Front | None:
        """A front whose server is not there, where there can be such a thing."""
        return None

    async def test_what_was_never_put_is_nothing(self) -> None:
        async with self.front() as front:
            assert list(await front.get([b"a", b"b"])) == [None, None]

    async def test_nothing_asked_is_nothing_answered(self) -> None:
        async with self.front() as front:
            assert list(await front.get([])) == []
            assert list(await front.apply([], MINE, MARK_TTL)) == []

    async def test_cells_come_in_the_order_of_their_keys(self) -> None:
        async with self.front() as front:
            keys = [b"key %d" % i for i in range(100)]
            for key in keys[::2]:
                await _put(front, key, b"V" + key)
            expected = [b"V" + key if i % 2 == 0 else None for i, key in enumerate(keys)]
            assert list(await front.get(keys)) == expected
            assert list(await front.get(keys[::-1])) == expected[::-1]
            assert list(await front.get([keys[0], keys[0]])) == [b"V" + keys[0]] * 2

    async def test_keys_and_cells_may_hold_any_bytes(self) -> None:
        async with self.front() as front:
            for key in (b"\0", b"\r\n", b"", bytes(range(256))):
                await _put(front, key, _BINARY + key)
                assert list(await front.get([key])) == [_BINARY + key]

    async def test_a_mark_is_a_cell_that_everybody_sees(self) -> None:
        async with self.front() as front:
            marks = [Step(MARK_READ, b"r"), Step(MARK_WRITE, b"w")]
            assert list(await front.apply(marks, MINE, MARK_TTL)) == [True, True]
            assert list(await front.get([b"r", b"w"])) == [b"R" + MINE, b"W0" + MINE]

    async def test_each_step_of_a_batch_is_answered_for_itself(self) -> None:
        async with self.front() as front:
            await front.apply([Step(MARK_READ, b"1"), Step(MARK_READ, b"2")], HIS, MARK_TTL)
            await front.apply([Step(MARK_READ, b"3")], MINE, MARK_TTL)
            batch = [
                Step(MARK_READ, b"1"),
                Step(MARK_WRITE, b"2"),
                Step(SETTLE_READ, b"3", _BINARY, 60_000),
                Step(SETTLE_WRITE, b"4", _BINARY, 60_000),
            ]
            assert list(await front.apply(batch, MINE, MARK_TTL)) == [False, True, True, False]
            assert list(await front.get([b"1", b"2", b"3", b"4"])) == [b"R" + HIS, b"W0" + MINE, _BINARY, None]

    async def test_a_batch_of_thousands_is_taken(self) -> None:
        async with self.front() as front:
            keys = [b"key %d" % i for i in range(9_000)]
            assert all(await front.apply([Step(MARK_READ, key) for key in keys], MINE, 60_000))
            settles = [Step(SETTLE_READ, key, b"V" + key, 120_000) for key in keys]
            assert all(await front.apply(settles, MINE, 60_000))
            assert list(await front.get(keys)) == [b"V" + key for key in keys]

    async def test_a_batch_of_megabytes_is_taken(self) -> None:
        async with self.front() as front:
            cells = {b"key %d" % i: b"V%d" % i + bytes(3_000_000) for i in range(6)}
            await front.apply([Step(MARK_WRITE, key) for key in cells], MINE, 60_000)
            settles = [Step(SETTLE_WRITE, key, cell, 120_000) for key, cell in cells.items()]
            assert all(await front.apply(settles, MINE, 60_000))
            assert list(await front.get(list(cells))) == list(cells.values())

    async def test_of_many_writers_at_once_each_is_told_the_truth(self) -> None:
        """All join one cell; none of them may put its value, and the last to leave empties it."""
        told: list[bool] = []
        marked: list[bytes] = []
        all_marked = anyio.Event()

        async with self.front() as front:

            async def write(token: bytes) -> None:
                await front.apply([Step(MARK_WRITE, b"key")], token, 60_000)
                marked.append(token)
                if len(marked) == 20:
                    all_marked.set()
                await all_marked.wait()
                told.extend(await front.apply([Step(SETTLE_WRITE, b"key", _BINARY, 60_000)], token, 60_000))

            async with anyio.create_task_group() as writers:
                for i in range(20):
                    writers.start_soon(write, bytes((i,)) * 16)
            assert told == [False] * 20
            assert list(await front.get([b"key"])) == [None]

    async def test_loops_in_several_threads_share_it_and_each_gets_its_own_answers(self) -> None:
        wrong: list[object] = []

        async with self.front() as front:

            async def one(name: int, i: int) -> None:
                key = b"%d of %d" % (i, name)
                await _put(front, key, b"V" + key)
                cells = list(await front.get([key, b"shared"]))
                if cells != [b"V" + key, b"V-shared"]:
                    wrong.append(cells)

            async def main(name: int) -> None:
                async with anyio.create_task_group() as calls:
                    for i in range(50):
                        calls.start_soon(one, name, i)

            await _put(front, b"shared", b"V-shared")
            threads = [threading.Thread(target=anyio.run, args=(main, name)) for name in range(4)]
            for thread in threads:
                thread.start()
            await main(4)
            for thread in threads:
                await anyio.to_thread.run_sync(thread.join)
            assert wrong == []
            assert None not in await front.get([b"%d of %d" % (i, name) for i in range(50) for name in range(5)])

    async def test_it_can_be_used_again_after_closing(self) -> None:
        async with self.front() as front:
            await front.aclose()
            await _put(front, b"key", _BINARY)
            assert list(await front.get([b"key"])) == [_BINARY]
            await front.aclose()
            await front.aclose()

    async def test_without_its_server_every_call_says_so(self) -> None:
        front = self.unreachable()
        if front is None:
            return
        for call in (lambda: front.get([b"k"]), lambda: front.apply([Step(MARK_READ, b"k")], MINE, MARK_TTL)):
            assert await refused(call, FrontUnavailableError)
        await front.aclose()

    # --- expiry -------------------------------------------------------------------------------------------------------

    async def test_cells_and_marks_expire_and_not_too_soon(self) -> None:
        """By whatever clock the front goes."""
        async with self.front() as front:
            started = time.monotonic()
            await front.apply([Step(MARK_READ, b"r"), Step(MARK_WRITE, b"w")], MINE, 250)
            await front.apply([Step(MARK_WRITE, b"v")], HIS, MARK_TTL)
            await front.apply([Step(SETTLE_WRITE, b"v", b"V", 250)], HIS, MARK_TTL)
            await self._expired(front, [b"r", b"w", b"v"], 0.25)
            assert self.clock or time.monotonic() - started > 0.2, "gone before their time"

    async def test_with_a_clock_they_expire_to_the_millisecond(self) -> None:
        async with self.front() as front:
            if self.clock is None:
                return
            await _put(front, b"value", b"V", 1_500)
            await front.apply([Step(MARK_READ, b"mark")], MINE, 1_000)
            for seconds, expected in ((0.999, [b"V", b"R" + MINE]), (0.001, [b"V", None]), (0.5, [None, None])):
                self.clock.advance(seconds)
                assert list(await front.get([b"value", b"mark"])) == expected

    async def test_an_expired_mark_no_longer_lets_its_owner_put_a_value(self) -> None:
        async with self.front() as front:
            await front.apply([Step(MARK_WRITE, b"w"), Step(MARK_READ, b"r")], MINE, 50)
            await self._expired(front, [b"w", b"r"], 0.05)
            settles = [Step(SETTLE_WRITE, b"w", b"V", 60_000), Step(SETTLE_READ, b"r", b"V", 60_000)]
            assert list(await front.apply(settles, MINE, 50)) == [False, False]
            assert list(await front.get([b"w", b"r"])) == [None, None]

    async def test_the_life_of_a_value_counts_from_marking(self) -> None:
        """So that a settle which was delayed on its way cannot make a value outlive its entry."""
        async with self.front() as front:
            await front.apply([Step(MARK_WRITE, b"w"), Step(MARK_READ, b"r")], MINE, MARK_TTL)
            if self.clock is None:
                await anyio.sleep(0.06)
            else:
                self.clock.advance(0.05)
            settles = [Step(SETTLE_WRITE, b"w", b"V", 50), Step(SETTLE_READ, b"r", b"V", 50)]
            assert list(await front.apply(settles, MINE, MARK_TTL)) == [False, False]
            assert list(await front.get([b"w", b"r"])) == [None, None]

    async def _expired(self, front: Front, keys: list[bytes], seconds: float) -> None:
        """Returns when nothing is left there. Time is advanced where that is for us to do; else it passes by itself."""
        if self.clock is not None:
            self.clock.advance(seconds)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while [cell for cell in await front.get(keys) if cell is not None]:
            assert time.monotonic() < deadline, "still there long after their time"
            await anyio.sleep(0.005)
