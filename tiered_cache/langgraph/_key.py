"""A key for the input of a node or a task that is the same in every process."""

from __future__ import annotations

from typing import Any, Final

from tiered_cache._stable import digest

_CURE: Final = "; a node is keyed by a part of its input with CachePolicy(key_func=lambda state: stable_key(...))"


def stable_cache_key(*args: Any, **kwargs: Any) -> str:
    """`CachePolicy(key_func=stable_cache_key)`: `tiered_cache.stable_key` of what a node or a task is given.

    LangGraph's own default is a pickle of it, which differs between processes for messages, sets and models, and with
    the order of a dict.

    What LangGraph's checkpoints do not keep apart has one key, so that a run that goes on from a checkpoint finds what
    the run before it left: a tuple and a list; a bytearray and bytes; a subclass of dict, list, str and the like and
    its base; two time zones with the same offset.

    Raises UnsupportedValueError, naming the place and the type, for an input that has no stable key. LangGraph then
    ends the run before the node: a node that is never found would be paid for each time, and nobody would know.
    """
    return digest(args, kwargs, alike=True, cure=_CURE)
