"""What must not be carried over a fork: locks that a thread of the parent holds, and its connections."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    def forget(self) -> None:
        """In the child: takes new locks, and lets go, without closing it, of what is the parent's."""
        ...


_known: WeakSet[Forgetful] = WeakSet()


def forget_after_fork(each: Forgetful) -> None:
    """Has `each.forget()` called in every forked child, as long as somebody else holds `each`."""
    _known.add(each)


def _forget_all() -> None:
    for each in list(_known):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
