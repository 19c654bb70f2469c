"""The near tier: cells of a shared front in this process, coherent through the front's own news of what changes.

Coherent to within a bound. A key that another process changes is dropped when the news of it is here: the network's
delay, as a rule. A ping on the very connection on which news comes, answered in its turn, proves that all news up to
its sending is here; nothing is answered near unless such a ping was sent within `staleness`. So where news is late, or
its connection is silent, frozen or gone, or nobody has the time to hear it, what was changed longer ago than that is
not seen. What this process changes itself through the same front is dropped before its change returns.

The cells of one answer may be of different moments, near ones and those just read: each was what the front held at
some moment within the bound. That is enough for readers, since a value counts where its version is above the
watermarks beside it: a change of the key takes the value away, a clear the watermark, and neither comes back.

It is not enough for those who go by a cell in what they do to the store or to a lease: who ask whether a namespace was
cleared while they computed, look at a lease, or empty what is to be removed. They ask for watermarks alone, or for
none, and readers for values with the watermarks that judge them; only where both are held is anything answered near.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Final, Protocol
from weakref import finalize

import anyio
import anyio.to_thread

from . import _portal as portal
from ._cells import is_value, is_watermark
from ._clock import elapsed
from ._errors import FrontUnavailableError
from ._fork import forget_after_fork
from ._guard import Condition
from ._redis import Tracking
from ._rule import Step
from ._shelf import Shelf
from ._tiers import Front

# How often within the bound a ping is sent, so that one which takes its time leaves no gap.
_PINGS: Final = 3
_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 1.0

# Where nobody has read for so long, nobody listens either, until somebody reads again.
_IDLE_SECONDS: Final = 60.0


class TrackedFront(Front, Protocol):
    """A front that tells how long its cells have to live, and which of them change."""

    async def read(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes | None, int]]: ...

    async def track(self, prefix: bytes) -> Tracking: ...


class NearFront:
    """A front of which this process holds what it has read, in at most `max_bytes`.

    Values alone are held, never marks, and none for longer than it has to live in the front. Keys begin with `prefix`.
    `staleness`, in seconds, is the longest that a change by another process may go unseen. `note` is told how many
    values (not watermarks) were answered near. It listens in the portal's thread from the first read on, as long as
    anybody reads. Where the front refuses to tell, it is as if it were not there; that is logged.
    """

    def __init__(
        self,
        front: TrackedFront,
        prefix: bytes,
        *,
        max_bytes: int,
        staleness: float = 1.0,
        note: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._front = front
        self._prefix = prefix
        self._staleness = staleness
        self._note = note
        self.shelf: Final = Shelf(max_bytes, staleness, clock)
        self._condition = Condition("the near tier", "every read asks the front")
        self.forget()
        forget_after_fork(self)

    def __repr__(self) -> str:
        return f"NearFront({self._front!r})"

    def forget(self) -> None:
        """After a fork, in the child: who listens is in the parent, and his connection is the parent's."""
        self._lock = threading.Lock()
        listener: _Listener | None = getattr(self, "_listener", None)
        if listener is not None:
            _of_the_parent.append(listener)
            self._finalizer.detach()
        self._listener: _Listener | None = None

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        self._listen()
        held = self.shelf.answer(keys)
        if held is None:
            return await self._front.get(keys)
        values = self._answerable(held)
        if not values:
            return await self._read(keys)
        missing = [key for key, cell in zip(keys, held, strict=True) if cell is None]
        found = iter(await self._read(missing) if missing else ())
        self._note(values)
        return [next(found) if cell is None else cell for cell in held]

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        try:
            return await self._front.apply(steps, token, mark_ttl)
        finally:  # cancelled or failed, it may have been carried out; if it is later, that is news
            self.shelf.change([step.key for step in steps])

    async def aclose(self) -> None:
        """Ends the listening, and closes the front."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            self._finalizer()
            await anyio.to_thread.run_sync(wait, [listener.ended], _CLOSE_SECONDS)
        self.shelf.doubt()
        await self._front.aclose()

    def _answerable(self, held: Sequence[bytes | None]) -> int:
        """How many values may be answered near."""
        cells = [cell for cell in held if cell is not None]
        watermarks = sum(map(is_watermark, cells))
        return len(cells) - watermarks if watermarks else 0

    async def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        reading = self.shelf.begin()
        try:
            found = await self._front.read(keys)
            kept = [(key, cell, ms) for key, (cell, ms) in zip(keys, found, strict=True) if cell and is_value(cell)]
            self.shelf.keep(reading, kept)
        finally:
            self.shelf.end(reading)
        return [cell for cell, _ in found]

    def _listen(self) -> None:
        listener = self._listener
        if listener is not None and not listener.ended.done():
            listener.used = True
            return
        with self._lock:
            if self._listener is not listener:
                return
            listener = _Listener(self._front, self._prefix, self.shelf, self._staleness, self._condition)
            try:
                portal.submit(listener.run)
            except RuntimeError:  # no thread can be started just now
                return
            self._finalizer = finalize(self, listener.stop)
            self._finalizer.atexit = False
            self._listener = listener


class _Listener:
    """Hears what changes and tells the shelf, on the portal's loop. Does not keep the `NearFront` that it is for."""

    def __init__(
        self, front: TrackedFront, prefix: bytes, shelf: Shelf, staleness: float, condition: Condition
    ) -> None:
        self._front = front
        self._prefix = prefix
        self._shelf = shelf
        self._staleness = staleness
        self._condition = condition
        self._stopped = False
        #: Whether anybody has read since this was last looked at.
        self.used = True
        self._task: asyncio.Task[object] | None = None
        self.ended: Final[Future[None]] = Future()

    def stop(self) -> None:
        """Soon, from any thread; it has when it is `ended`."""
        self._stopped = True
        portal.soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            pause = _RETRY_SECONDS
            while not self._stopped:
                pause = _RETRY_SECONDS if await self._hear_until_lost() else min(2 * pause, _LONGEST_RETRY_SECONDS)
                if not self._stopped:
                    await anyio.sleep(pause)
        finally:
            self._task = None
            self.ended.set_result(None)

    async def _hear_until_lost(self) -> bool:
        """Whether there was anything to be heard."""
        try:
            tracking = await self._front.track(self._prefix)
        except FrontUnavailableError as error:
            self._condition.failed(error)
            return False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ping_on, tracking, tasks.cancel_scope)
                await self._hear(tracking, tasks.cancel_scope)
        finally:
            self._shelf.doubt()
            await tracking.aclose()
        return True

    async def _hear(self, tracking: Tracking, scope: anyio.CancelScope) -> None:
        try:
            while True:
                heard = await tracking.hear()
                if heard is None:
                    self._shelf.confirm(self._ping.sent_at)
                    self._condition.worked()
                    self._ping.answered.set()
                elif heard.keys is None:
                    self._shelf.flush()
                else:
                    self._shelf.change(heard.keys)
        except FrontUnavailableError as error:
            self._condition.failed(error)
            scope.cancel()

    async def _ping_on(self, tracking: Tracking, scope: anyio.CancelScope) -> None:
        """One ping after the other, while anybody reads."""
        used = self._shelf.clock()
        try:
            while not self._stopped:
                with anyio.fail_after(self._staleness):
                    self._ping = _Ping(self._shelf.clock())
                    await tracking.ping()
                    await self._ping.answered.wait()
                await anyio.sleep(self._staleness / _PINGS)
                if self.used:
                    self.used, used = False, self._shelf.clock()
                self._stopped = self._stopped or self._shelf.clock() - used >= _IDLE_SECONDS
        except TimeoutError:
            self._condition.failed(f"no news from the front, nor an answer, within {self._staleness} s")
        except FrontUnavailableError as error:
            self._condition.failed(error)
        scope.cancel()


class _Ping:
    """One, and when it was sent. The next is sent when it was answered, so what is answered is the last."""

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at
        self.answered = anyio.Event()


_of_the_parent: list[_Listener] = []  # kept alive: finalizers would talk to the server on the parent's connection
