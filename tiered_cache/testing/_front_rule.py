"""The part of the front's suite that holds it against the pure rule."""

from __future__ import annotations

import random
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

from tiered_cache._rule import MARK_WRITE, SETTLE_WRITE, Held, Step, apply
from tiered_cache._tiers import Front

from ._clock import ManualClock
from ._table import (
    HIS,
    MARK_TTL,
    MINE,
    RANDOM_MARK_TTL,
    TABLE,
    UNIT_MS,
    any_held,
    any_step,
    any_token,
    bring_about,
)

_BATCHES: Final = 40
_WALKS: Final = 20
_STEPS: Final = 40


class RuleSuite:
    """What a front does with a step is what `tiered_cache._rule.apply` does with it. Part of `FrontSuite`."""

    clock: ManualClock | None

    def front(self) -> AbstractAsyncContextManager[Front]:
        """See `FrontSuite`."""
        raise NotImplementedError

    async def left(self, front: Front, key: bytes) -> int | None:
        """See `FrontSuite`."""
        raise NotImplementedError

    async def test_the_table_of_the_rule_holds_row_by_row(self) -> None:
        async with self.front() as front:
            for i, row in enumerate(TABLE):
                key, started = b"row %d" % i, time.monotonic()
                await bring_about(front, [(key, row.before)])
                if row.before is not None:
                    assert list(await front.get([key])) == [row.before.cell], f"on the way to: {row.name}"
                done = list(await front.apply([row.step._replace(key=key)], MINE, MARK_TTL))
                assert done == [row.done], row.name
                await self._holds(front, key, row.after, started, row.name)

    async def test_any_batch_ends_as_by_the_rule(self) -> None:
        dice = random.Random(1)  # noqa: S311 (repeatable, not secret)
        async with self.front() as front:
            for batch in range(_BATCHES):
                started, token = time.monotonic(), any_token(dice)
                befores = {b"%d\0\r\n%d" % (batch, i): any_held(dice) for i in range(dice.randint(1, 30))}
                steps = [any_step(dice, key, before) for key, before in befores.items()]
                await bring_about(front, list(befores.items()))
                done = await front.apply(steps, token, RANDOM_MARK_TTL)
                for step, did in zip(steps, done, strict=True):
                    before = befores[step.key]
                    expected = apply(before, step, token, RANDOM_MARK_TTL)
                    what = f"{before} and {step} by {token!r}"
                    assert did is expected.done, what
                    await self._holds(front, step.key, expected.held, started, what)

    async def test_any_walk_ends_as_in_a_dictionary_under_the_rule(self) -> None:
        """Step after step on three keys; where there is a clock, time passes in between and cells expire."""
        dice = random.Random(2)  # noqa: S311 (repeatable, not secret)
        async with self.front() as front:
            for walk in range(_WALKS):
                keys = [b"%d of walk %d" % (i, walk) for i in range(3)]
                model: dict[bytes, Held] = {}
                for _ in range(_STEPS):
                    key, token = dice.choice(keys), any_token(dice)
                    model = self._later(model, dice.randint(0, 9) * UNIT_MS)
                    step = any_step(dice, key, model.get(key))
                    after, done = apply(model.pop(key, None), step, token, RANDOM_MARK_TTL)
                    if after is not None:
                        model[key] = after
                    assert list(await front.apply([step], token, RANDOM_MARK_TTL)) == [done], step
                    expected = [model[k].cell if k in model else None for k in keys]
                    assert list(await front.get(keys)) == expected, step

    async def test_thirty_writers_join_and_leave_as_by_the_rule(self) -> None:
        crowd = [bytes((i,)) * 16 for i in range(30)]
        expected: Held | None = None
        async with self.front() as front:
            for step in (Step(MARK_WRITE, b"key"), Step(SETTLE_WRITE, b"key", b"V-value", 60_000)):
                for token in crowd:
                    expected, done = apply(expected, step, token, MARK_TTL)
                    assert list(await front.apply([step], token, MARK_TTL)) == [done]
                    assert list(await front.get([b"key"])) == [expected and expected.cell]
        assert expected is None

    async def test_a_joined_mark_is_prolonged_once(self) -> None:
        """So that the mark of a dead writer expires however many others come after it."""
        async with self.front() as front:
            for token, mark_ttl, expected in (
                (HIS, 10_000, 10_000),
                (MINE, 40_000, 40_000),
                (b"t" * 16, 90_000, 40_000),
            ):
                started = time.monotonic()
                await front.apply([Step(MARK_WRITE, b"key")], token, mark_ttl)
                left = await self.left(front, b"key")
                if left is not None:
                    assert _about(left, expected, started), (left, expected)

    async def _holds(self, front: Front, key: bytes, expected: Held | None, started: float, what: str) -> None:
        assert list(await front.get([key])) == [expected and expected.cell], what
        left = None if expected is None else await self.left(front, key)
        if expected is not None and left is not None:
            assert _about(left, expected.left, started), f"{left} ms left instead of {expected.left} after: {what}"

    def _later(self, model: dict[bytes, Held], waited: int) -> dict[bytes, Held]:
        if self.clock is None:
            return model
        self.clock.advance(waited / 1000)
        return {key: Held(held.cell, held.left - waited) for key, held in model.items() if held.left > waited}


def _about(left: int, expected: int, started: float) -> bool:
    """Equal but for the time that passed since."""
    return expected - (time.monotonic() - started) * 1000 - 20 <= left <= expected + 20
