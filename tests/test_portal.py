"""The thread for those who have no loop, where it cannot be started: said at once, and nothing is left behind."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.doubles import DictStore
from tiered_cache import FrontUnavailableError, MemoryFront, TieredCache
from tiered_cache import _portal as portal
from tiered_cache.testing import FaultyFront


@pytest.fixture(autouse=True)
def not_started(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """As if nobody had needed it so far."""
    monkeypatch.setattr(portal, "_running", None)
    monkeypatch.setattr(portal, "_lock", threading.Lock())
    yield
    if portal._running is not None:
        portal._running.stop()


def without_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Callable[..., Any]) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(portal.anyio, "run", run)


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("poor", [without_loops, without_threads])
def test_it_is_said_at_once_and_works_when_it_can(
    monkeypatch: pytest.MonkeyPatch, poor: Callable[[pytest.MonkeyPatch], None]
) -> None:
    async def work() -> int:
        return 1

    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("error")
        poor(patched)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="thread"):
                portal.submit(work)
            with pytest.raises(RuntimeError, match="thread"):
                portal.call(work)
        gc.collect()  # a coroutine that nobody awaited would say so now
    assert portal.submit(work).result() == portal.call(work) == 1


@pytest.mark.parametrize("poor", [without_loops, without_threads])
async def test_those_who_need_it_in_the_background_only_do_without(
    monkeypatch: pytest.MonkeyPatch, poor: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """A lease that nobody renews, a journal that another process delivers, an audit of nothing."""
    front = FaultyFront(MemoryFront())
    with monkeypatch.context() as patched:
        poor(patched)
        cache = TieredCache(front, DictStore(), audit_share=1.0)

        async def compute() -> int:
            return 1

        async def fail() -> int:
            raise LookupError

        assert await cache.get_or_compute("k", compute) == 1
        with pytest.raises(LookupError):
            await cache.get_or_compute("l", fail)
        assert await cache.get("k") == 1
        front.fail("mark_write", "before", FrontUnavailableError("as planned"))
        front.fail("settle_write", "before", FrontUnavailableError("as planned"))
        await cache.set("k", 2)
        assert await cache.get("k") == 2
        await cache.aclose()
