"""Which of the keys that LangGraph asks for stand for tasks that are not running yet.

LangGraph asks for the tasks of a superstep before it starts them. Whenever one of these starts another (a `@task`, an
error handler), it asks for all tasks that have written nothing so far: 50 tasks come to 1,275 keys. And tasks that run
are among them; what is found for such a one is put before what it writes itself, so that a reducer counts it twice.

So of a question asked while tasks run, only the key of the task that is about to start is looked up. The others had
their answer, and are left out, which says "a miss".

LangGraph tells a cache neither the run nor the task, but the functions that ask have them in variables, and those are
read here. Context variables, threads and asyncio's tasks cannot tell: the first question of a graph inside a node comes
with those of the node, as do the questions about tasks that the node starts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final, TypeVar

K = TypeVar("K")

_ASKING: Final = frozenset(("match_cached_writes", "amatch_cached_writes"))
#: The variable of `_ASKING` that holds the tasks by their keys.
_TASKS: Final = "cached"
#: What asks before any task of a superstep runs.
_BEFORE: Final = frozenset(("stream", "astream"))
#: What asks while tasks run, with the variable that holds the one to be started.
_MEANWHILE: Final = {
    "accept_push": "pushed",
    "aaccept_push": "pushed",
    "schedule_error_handler": "handler_task",
    "aschedule_error_handler": "handler_task",
}
#: How far up the stack to look. A cache that wraps ours adds a function or two.
_DEPTH: Final = 6


def keys_to_look_up(keys: Sequence[K]) -> Sequence[K] | None:
    """Those of tasks that do not run yet; None where the caller is not LangGraph as it is known here."""
    frame = inspect.currentframe()
    for _ in range(_DEPTH):
        frame = frame and frame.f_back
        if frame is None:
            return None
        if frame.f_code.co_name in _ASKING:
            return _of_tasks_to_start(keys, frame, frame.f_back)
    return None


def _of_tasks_to_start(keys: Sequence[K], asking: FrameType, asker: FrameType | None) -> Sequence[K] | None:
    if asker is None:
        return None
    name = asker.f_code.co_name
    if name in _BEFORE:
        return keys
    tasks = asking.f_locals.get(_TASKS)
    task = asker.f_locals.get(_MEANWHILE.get(name, ""))
    if task is None or not isinstance(tasks, Mapping) or not all(key in tasks for key in keys):
        return None
    # Two tasks can have one key. LangGraph then gives what is found to the one that it has under this key.
    return [key for key in keys if tasks[key] is task]
