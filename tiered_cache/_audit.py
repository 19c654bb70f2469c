"""Is what the front serves what the store holds? Asked of a sample of hits, a while later, off everybody's path.

A hit may be overwritten the moment after, so a difference between the tiers says nothing by itself. But whoever changes
the store marks the front first: a cell that is there before and after the store was asked, and is not what the store
said, is one that the rule would not have left there.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import Final

import anyio

from . import _portal as portal
from ._engine import Engine
from ._errors import TieredCacheError
from ._fork import forget_after_fork
from ._keys import Key
from ._stats import Audited, logger

#: How old, in seconds, a hit is when it is looked at again.
AGES: Final = (1.0, 10.0, 60.0)

# Hits that wait to be looked at. Of a crowd, these are a sample as well.
_MOST_WAITING: Final = 1000
_AT_ONCE: Final = 100

# A cell may outlive its row by the time that a read takes: what differs must differ again after so many seconds.
_AGAIN_AFTER: Final = 0.1


class Auditor:
    """Looks at a share of the front's hits again, at each of the `ages`, and tells `report` what it found.

    `report` is given the age, how many hits were looked at, and how many were not what the store held.
    """

    def __init__(
        self, engine: Engine, share: float, ages: Sequence[float], report: Callable[[float, int, int], None]
    ) -> None:
        self._engine = engine
        self._share = share
        self._ages = ages
        self._report = report
        self._order = count()
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: the parent looks at its own."""
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, float, Key]] = []  # a heap: when it is due, and at which age
        self._looking = False
        self._round: Future[None] | None = None

    def note(self, hits: Sequence[Key]) -> None:
        """Told of every hit in the front."""
        sample = [key for key in hits if random.random() < self._share]  # noqa: S311  (no secret)
        if not sample:
            return
        now = monotonic()
        with self._lock:
            for key in sample[: (_MOST_WAITING - len(self._waiting)) // len(self._ages)]:
                for age in self._ages:
                    heappush(self._waiting, (now + age, next(self._order), age, key))
            start, self._looking = not self._looking, True
        if start:
            try:
                self._round = portal.submit(self._look)
            except RuntimeError:  # no thread can be started just now
                self._looking = False

    def stop(self) -> None:
        """Looks at nothing any more of what was noted so far."""
        with self._lock:
            self._waiting.clear()
            self._looking = False
        if self._round is not None:
            self._round.cancel()

    async def until_done(self) -> None:
        """Returns when nothing waits to be looked at any more."""
        while self._looking:  # noqa: ASYNC110  (it goes on in another thread)
            await anyio.sleep(0.05)

    async def _look(self) -> None:
        while True:
            due, pause = self._due()
            for age, keys in due.items():
                await self._audit(age, keys)
            if pause is None:
                return
            await anyio.sleep(pause)

    def _due(self) -> tuple[Mapping[float, list[Key]], float | None]:
        """What is to be looked at now, by age; and when to come again, None for never."""
        due: dict[float, list[Key]] = {}
        now = monotonic()
        with self._lock:
            for _ in range(_AT_ONCE):
                if not self._waiting or self._waiting[0][0] > now:
                    break
                _, _, age, key = heappop(self._waiting)
                due.setdefault(age, []).append(key)
            if not self._waiting and not due:
                self._looking = False
                return due, None
            return due, max(0.0, self._waiting[0][0] - now) if self._waiting else 0.0

    async def _audit(self, age: float, keys: Sequence[Key]) -> None:
        try:
            differing = await self._engine.inquiries.differing(keys)
            if differing:
                await anyio.sleep(_AGAIN_AFTER)
                differing = await self._engine.inquiries.differing(differing)
        except TieredCacheError:
            return  # a tier is away: there is nothing to compare
        if differing is not None:
            self._report(age, len(keys), len(differing))


class Findings:
    """What one audit found, by age. For any thread."""

    def __init__(self) -> None:
        self.by_age: dict[float, Audited] = {}

    def add(self, age: float, looked: int, differing: int) -> None:
        before = self.by_age.get(age, Audited(0, 0))
        if differing and not before.inconsistent:
            logger.warning("the audit found %d cells in the front that are not what the store holds", differing)
        self.by_age[age] = Audited(before.checked + looked, before.inconsistent + differing)
