"""Who looks an answer up, and whether he is still at it, as far as that can be seen from outside.

LangChain tells a cache of answers and of nothing else. What is left of a call that failed is that its frame is on no
stack any more: that of its thread, or that of its task.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final
from weakref import ref

_MODELS: Final = "langchain_core.language_models."


class Caller:
    """The call of a model on the current thread, or in the current task."""

    def __init__(self, *, asynchronous: bool) -> None:
        self._thread = threading.get_ident()
        task = _running_task() if asynchronous else None
        self._task = None if task is None else ref(task)
        #: The frame that goes on for as long as the call does. None: that of nothing known.
        self._frame: FrameType | None = None
        #: Whether the call lets go of a miss at once: text models do, which look up all prompts before they begin.
        self.forgets: bool = False
        self._is_task = False
        for frame in _outwards(inspect.currentframe()):
            if str(frame.f_globals.get("__name__")).startswith(_MODELS):
                name = frame.f_code.co_name
                if name in ("get_prompts", "aget_prompts"):
                    self.forgets = True
                elif name == "_agenerate_with_cache":
                    self._is_task = True
                    break
                elif name in ("generate", "agenerate"):
                    self._frame = None if asynchronous and task is None else frame
                    break

    def when_done(self, call: Callable[[], None]) -> None:
        """Calls back where a task ends with the call: chat models have one for each prompt. Asked in that task."""
        task = _running_task()
        if self._is_task and task is not None:
            task.add_done_callback(lambda _: call())

    def let_go(self) -> None:
        """Nobody asks any more."""
        self._frame = None

    def has_left(self) -> bool:
        """Whether the call has surely ended. May be asked on any thread."""
        if self._task is not None:
            task = self._task()
            if task is None or task.done():
                return True
            return self._frame is not None and _has_left(task, self._frame)
        innermost = sys._current_frames().get(self._thread)  # noqa: SLF001  (the only way to look at another thread)
        return self._frame is not None and not _is_among(self._frame, innermost)

    def has_left_here(self) -> bool:
        """The same, of a call on the current thread or in the current task; of any other, False."""
        here = self._task() is _running_task() if self._task is not None else self._thread == threading.get_ident()
        return here and self._frame is not None and not _is_among(self._frame, inspect.currentframe())


def _has_left(task: asyncio.Task[Any], frame: FrameType) -> bool:
    """Whether what a task awaits leads to what it waits for in the end, and not through this frame.

    It does not where the task is running, nor through an asynchronous generator: those cannot be seen through.
    """
    each: Any = task.get_coro()
    last = each
    while each is not None:
        last = each
        if (getattr(each, "cr_frame", None) or getattr(each, "gi_frame", None)) is frame:
            return False
        each = getattr(each, "cr_await", None) or getattr(each, "gi_yieldfrom", None)
    return type(last).__name__ == "FutureIter"


def _is_among(frame: FrameType, innermost: FrameType | None) -> bool:
    return any(each is frame for each in _outwards(innermost))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop here, or one that is not asyncio's
        return None
