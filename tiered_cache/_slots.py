"""A bound on what is under way at once."""

from __future__ import annotations

import anyio


class Slots:
    """Round what at most `n` of one loop may do at a time. Who finds one free waits for nothing."""

    def __init__(self, n: int) -> None:
        self._semaphore = anyio.Semaphore(n, fast_acquire=True)

    async def __aenter__(self) -> None:
        try:
            self._semaphore.acquire_nowait()
        except anyio.WouldBlock:
            await self._semaphore.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._semaphore.release()
