"""Work that a cancelled caller does not cut short, and deadlines that a busy loop does not bring forward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, proxy

import anyio

T = TypeVar("T")

_ON_TIME_SECONDS: Final = 0.005
_EXTENSIONS: Final = 10


def within(seconds: float) -> AbstractContextManager[object]:
    """Raises TimeoutError for a block that waits for longer.

    On asyncio, time in which the loop was held up by something else does not count: an answer that came in meanwhile is
    still taken. A crowd that is busy with the last batch of answers would otherwise lose the next.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return anyio.fail_after(seconds)
    watches = _watches.get(loop)
    if watches is None:
        watches = _watches[loop] = {}
    watch = watches.get(seconds)
    if watch is None:
        watch = watches[seconds] = _Watch(loop, seconds)
    return _Deadline(watch)


class _Watch:
    """One timer of a loop for all blocks that may wait for so long: they are due in the order in which they began."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop: Final = proxy(loop)  # else it would be kept by what is kept as long as it
        self._seconds = seconds
        self._armed = False
        self.waiting: dict[_Deadline, None] = {}

    def add(self, deadline: _Deadline) -> float:
        """Returns when it is due."""
        due = self.loop.time() + self._seconds
        self.waiting[deadline] = None
        if not self._armed:
            self._arm(due)
        return due

    def _arm(self, due: float) -> None:
        self._armed = True
        self.loop.call_at(due, self._look)  # not kept: it has the loop

    def _look(self) -> None:
        self._armed = False
        now = self.loop.time()
        for deadline in list(self.waiting):
            if deadline.due > now:
                self._arm(deadline.due)
                break
            del self.waiting[deadline]
            deadline.fire()


class _Deadline:
    """What `asyncio.timeout` does, for seconds in which the loop could turn.

    There is one round every exchange with a tier: a cancel scope, or a timer, costs as much as decoding an answer.
    """

    __slots__ = ("_cancelling", "_expired", "_extended", "_handle", "_task", "_watch", "due")

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        self._handle: asyncio.TimerHandle | None = None
        self._extended = 0
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "outside of any task, nothing could be interrupted"
        self._task = task
        self._cancelling = task.cancelling()
        self.due = self._watch.add(self)

    def fire(self) -> None:
        loop = self._watch.loop
        late = loop.time() - self.due
        if late < _ON_TIME_SECONDS or self._extended == _EXTENSIONS:
            self._expired = True
            self._task.cancel()
            return
        self._extended += 1
        self.due = loop.time() + late
        self._handle = loop.call_at(self.due, self.fire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.waiting.pop(self, None)
        if self._handle is not None:
            self._handle.cancel()
        # Where somebody else cancelled the task as well, his cancellation goes on.
        if self._expired and self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error


async def to_the_end(call: Callable[[], Coroutine[Any, Any, T]], seconds: float | None = None) -> T:
    """What `call()` returns or raises. If its caller is cancelled meanwhile, it ends first, and then the caller is.

    No cancellation reaches it: not that of a cancel scope, and not `Task.cancel` (so `asyncio.wait_for` and
    `asyncio.timeout`) either, from which a shielded scope alone would not protect it. With `seconds`, a deadline: then
    it is cancelled itself, and TimeoutError raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # on trio there is but one kind of cancellation
        with anyio.fail_after(seconds, shield=True):
            return await call()
    task = asyncio.create_task(call())
    _running.add(task)
    task.add_done_callback(_ended)
    cancelled = await _wait(task, seconds)
    ended = task.done()
    if not ended:
        task.cancel()  # once, not again and again as a cancel scope would: closing a connection takes awaiting
    if cancelled is not None:
        raise cancelled
    if not ended:
        raise TimeoutError
    return task.result()


async def _wait(task: asyncio.Task[Any], seconds: float | None) -> asyncio.CancelledError | None:
    """Returns when the task is done or its time is up; if the caller was cancelled meanwhile, with what to raise."""
    cancelled = None
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    with anyio.CancelScope(shield=True):
        while not task.done():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            try:
                await asyncio.wait((task,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: where nobody waits any more, nobody is to be told of it either


_running: Final[set[asyncio.Task[Any]]] = set()  # a loop holds its tasks weakly
_watches: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, _Watch]]] = WeakKeyDictionary()
