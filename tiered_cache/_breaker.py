"""The circuit breaker: a tier that keeps failing is not asked for a while, so that nobody waits for its deadline.

It opens by a rate over a time, never by a count in a row: a crowd that fails within one deadline is one failure seen
many times. It closes by one probe, the exchange of the first who comes when the time for one has come; meanwhile all
others go on without the tier.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal

from ._fork import forget_after_fork

State = Literal["closed", "open", "half_open"]

#: The share of exchanges that must have failed.
_RATE: Final = 0.5

# What is left of failures that were long ago.
_FORGOTTEN: Final = 0.01


class Breaker:
    """`window` and `retry` are in seconds; `clock` counts seconds and never goes back. For any thread.

    Opens once at least half of the exchanges (older ones counting half as much with every `window`) have failed all the
    time for `window`. Lets one exchange through every `retry`. `changed` is told of each new state, without any lock.
    """

    def __init__(
        self,
        window: float,
        retry: float,
        changed: Callable[[State], None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._window = window
        self._retry = retry
        self._clock = clock
        self._changed = changed
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child, whose connections are new ones."""
        self._lock = threading.Lock()
        self.state: State = "closed"
        self._good = self._bad = 0.0
        self._noted = self._clock()
        self._failing_since: float | None = None
        self._probe_at = 0.0

    def admits(self) -> bool:
        """Whether the tier is to be asked. Who is told so reports how it went."""
        if self.state == "closed":
            return True
        with self._lock:
            now = self._clock()
            if now < self._probe_at:
                return False
            # Also where the last probe has not come back: whoever made it may be gone with his loop.
            self._probe_at = now + self._retry
            changed = self._enter("half_open")
        self._tell(changed)
        return True

    def succeeded(self) -> None:
        if self.state == "closed" and not self._bad:  # successes count beside failures only
            return
        with self._lock:
            changed = self._enter("closed")
            if changed:
                self._good = self._bad = 0.0
            self._note(good=1)
            if self._bad < _RATE * (self._good + self._bad):
                self._failing_since = None
        self._tell(changed)

    def failed(self) -> None:
        with self._lock:
            now = self._note(bad=1)
            changed = False
            if self._is_hopeless(now):
                self._failing_since = None
                self._probe_at = now + self._retry
                changed = self._enter("open")
        self._tell(changed)

    def gave_up(self) -> None:
        """Whoever asked was cancelled, which says nothing about the tier. The next one is to probe."""
        with self._lock:
            changed = self.state == "half_open" and self._enter("open")
            if changed:
                self._probe_at = self._clock()
        self._tell(changed)

    def _is_hopeless(self, now: float) -> bool:
        if self.state == "closed" and self._bad >= _RATE * (self._good + self._bad):
            if self._failing_since is None:
                self._failing_since = now
            return now - self._failing_since >= self._window
        return self.state == "half_open"

    def _note(self, good: int = 0, bad: int = 0) -> float:
        now = self._clock()
        fade = 0.5 ** ((now - self._noted) / self._window)
        self._good = self._good * fade + good
        self._bad = self._bad * fade + bad
        if self._bad < _FORGOTTEN:
            self._bad = 0.0
        self._noted = now
        return now

    def _enter(self, state: State) -> bool:
        changed = state != self.state
        self.state = state
        return changed

    def _tell(self, changed: bool) -> None:
        if changed:
            self._changed(self.state)
