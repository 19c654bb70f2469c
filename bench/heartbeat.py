"""How long the event loop was held: a task that wants to run every 2 ms, and notes how late it came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

_BEAT_SECONDS = 0.002


class Heartbeat:
    """`held` is the longest delay so far, in seconds, to within 1 ms (asyncio's timers are no finer)."""

    def __init__(self) -> None:
        self.held = 0.0
        self._due = time.perf_counter() + _BEAT_SECONDS

    def look(self) -> None:
        self.held = max(self.held, time.perf_counter() - self._due)

    async def beat(self) -> None:
        while True:
            self._due = time.perf_counter() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            self.look()


@asynccontextmanager
async def heartbeat() -> AsyncGenerator[Heartbeat]:
    heart = Heartbeat()
    beating = asyncio.create_task(heart.beat())
    try:
        yield heart
    finally:
        heart.look()  # what holds the loop to the very end counts as well
        beating.cancel()
