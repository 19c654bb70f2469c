"""Waiting for what nobody tells."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from tiered_cache.testing._gates import PATIENCE_SECONDS


async def until(reached: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not reached():  # noqa: ASYNC110  (nobody tells)
            await anyio.sleep(0.001)


def until_sync(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.001)
