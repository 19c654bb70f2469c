"""A Redis front whose news comes by a road of its own, and whose readers can be held up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.waiting import until
from tiered_cache._errors import FrontUnavailableError
from tiered_cache._near import NearFront
from tiered_cache._redis import RedisFront, Tracking
from tiered_cache._rule import MARK_WRITE, SETTLE_WRITE, Step
from tiered_cache._shelf import Shelf
from tiered_cache.testing import SlowProxy
from tiered_cache.testing._gates import Gate

PATIENCE_SECONDS = 20.0
TOKEN = b"t" * 16


class Tracked:
    """Data comes straight from the server at `url`, news of changes by way of `news_url`."""

    def __init__(self, url: str, news_url: str) -> None:
        self._data = RedisFront(url, timeout=10)
        self._news = RedisFront(news_url, timeout=10)
        self._gate: Gate | None = None
        self._step_gate: Gate | None = None
        self.asked = 0
        self.tracked = 0
        #: Steps are taken, and nobody is told.
        self.mute = False

    def stop(self) -> Gate:
        """Holds up the next reader, who has the server's answer and has not looked at it."""
        self._gate = Gate()
        return self._gate

    def stop_steps(self) -> Gate:
        """Holds up the next who takes steps, before he does."""
        self._step_gate = Gate()
        return self._step_gate

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.asked += 1
        return await self._data.get(keys)

    async def read(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        self.asked += 1
        found = await self._data.read(keys)
        gate, self._gate = self._gate, None
        if gate is not None:
            await gate.wait()
        return found

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        gate, self._step_gate = self._step_gate, None
        if gate is not None:
            await gate.wait()
        done = await self._data.apply(steps, token, mark_ttl)
        if self.mute:
            raise FrontUnavailableError("the reply was lost")
        return done

    async def track(self, prefix: bytes) -> Tracking:
        self.tracked += 1
        return await self._news.track(prefix)

    async def aclose(self) -> None:
        await self._data.aclose()
        await self._news.aclose()


class NaiveShelf(Shelf):
    """Keeps whatever a reader brings, as one writes it first."""

    def keep(self, reading: Any, cells: Any) -> None:
        reading.changed.clear()
        super().keep(reading, cells)


@asynccontextmanager
async def tracked(
    url: str, shelf: Callable[..., Shelf] = Shelf, *, staleness: float = 30.0, max_bytes: int = 1_000_000, **given: Any
) -> AsyncGenerator[tuple[NearFront, Tracked, SlowProxy]]:
    """A near front, what it asks, and the road by which it is told; once it has been confirmed.

    A silence is as long as `staleness` allows before it is noticed, so what tests freeze stays in place.
    """
    async with SlowProxy.to(url) as road:
        inner = Tracked(url, road.url(url))
        front = NearFront(inner, b"", max_bytes=max_bytes, staleness=staleness, **given)
        if shelf is not Shelf:
            front.shelf = shelf(max_bytes, staleness)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            await front.get([b"nothing"])
            await until(lambda: front.shelf.fresh)
            yield front, inner, road
        finally:
            road.restore()
            await front.aclose()


async def put(front: Any, key: bytes, cell: bytes, ttl: int = 60_000) -> None:
    """Changes a cell as a writer does."""
    await front.apply([Step(MARK_WRITE, key)], TOKEN, 10_000)
    assert list(await front.apply([Step(SETTLE_WRITE, key, cell, ttl)], TOKEN, 10_000)) == [True]
