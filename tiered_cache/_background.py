"""What is done away from every caller's path: reclaiming space, and telling the front what it missed."""

from __future__ import annotations

from concurrent.futures import Future, wait
from time import monotonic

import anyio
import anyio.lowlevel
import anyio.to_thread

from . import _portal as portal
from ._engine import CHANGES_OF_A_CLEAR, Engine
from ._errors import FrontUnavailableError, TieredCacheError
from ._fork import forget_after_fork
from ._options import Options


class Reclaimer:
    """Removes expired and cleared rows: at an interval while `run` runs, else when there has been enough to do.

    Without `run`, a pass goes through the portal's thread, at most one an interval: after a clear, and after every
    thousand changes.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._interval = options.reclaim_interval
        self._rows = options.reclaim_rows
        self._patience = options.store_timeout
        self._stopping = False
        self._changes = 0
        self._last = -self._interval
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: whatever was under way goes on in the parent."""
        self._running = 0
        self._pass: Future[None] | None = None

    async def run(self) -> None:
        self._running += 1
        try:
            while True:
                await anyio.sleep(self._interval)
                await self.sweep()
        finally:
            self._running -= 1

    def note(self, changes: int) -> None:
        """Told of every change."""
        self._changes += changes
        idle = self._pass is None or self._pass.done()
        if self._running or not idle or self._changes < CHANGES_OF_A_CLEAR or monotonic() - self._last < self._interval:
            return
        self._changes, self._last = 0, monotonic()
        try:
            self._pass = portal.submit(self.sweep)
        except RuntimeError:  # no thread can be started just now; what was changed is changed all the same
            return

    async def stop(self) -> None:
        """Ends a pass in the portal's thread after its current batch: what it uses is about to be closed."""
        under_way = self._pass
        if under_way is None or under_way.done():
            return
        self._stopping = True
        try:
            await anyio.to_thread.run_sync(wait, [under_way], self._patience)
        finally:
            self._stopping = False

    async def sweep(self) -> None:
        """Batch after batch until nothing is left. A store that does not answer is asked again another time."""
        try:
            while not self._stopping and await self._engine.upkeep.reclaim() >= self._rows:
                await anyio.lowlevel.checkpoint()
        except TieredCacheError:
            return  # counted and logged where it was raised; nobody's own work may end for it


class Courier:
    """Tells the front of the changes of any process of which it could not be told: at an interval while `run` runs.

    Without `run`, when the cache is used and an interval has passed, and, where this process knows of such a change,
    until it is delivered; in the portal's thread.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._interval = options.recovery_interval
        self._retry = min(options.breaker_retry, options.recovery_interval)
        self._due = monotonic() + self._interval
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: whatever was under way goes on in the parent."""
        self._running = 0
        self._round: Future[None] | None = None

    async def run(self) -> None:
        self._running += 1
        try:
            while True:
                await self._deliver(self._interval)
        finally:
            self._running -= 1

    def note(self, missed: bool) -> None:
        """Told of every use, and whether the front missed something of it."""
        if self._running or not (missed or monotonic() >= self._due):
            return
        if self._round is not None and not self._round.done():
            return
        self._due = monotonic() + self._interval
        try:
            self._round = portal.submit(self._until_delivered, missed)
        except RuntimeError:  # no thread can be started just now
            return

    async def stop(self) -> None:
        if self._round is not None:
            self._round.cancel()

    async def _until_delivered(self, missed: bool) -> None:
        await self._deliver(self._retry if missed else 0)
        while self._engine.doubtful:
            await self._deliver(self._interval)

    async def _deliver(self, pause: float) -> None:
        """One round after a pause; and again soon, as long as the front is not there."""
        while True:
            await anyio.sleep(pause)
            try:
                await self._engine.upkeep.deliver()
            except FrontUnavailableError:
                pause = self._retry
            except TieredCacheError:
                return  # counted and logged where it was raised; another time, then
            else:
                return
