"""A round in a process of its own: `python -m tiered_cache.cli._another_process`, told what to do by JSON on stdin.

Not by arguments, which every user of the machine can read: URLs carry passwords. Writes a line for each request, and at
last the figures as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from subprocess import PIPE
from typing import Any, NamedTuple

import anyio
from anyio.streams.text import TextReceiveStream

from tiered_cache._cache import TieredCache

from ._refusal import Refusal
from ._round import Application, Figures

_DONE = "."


class Order(NamedTuple):
    """Which round to run."""

    front: str
    store: str
    options: dict[str, Any]
    path: list[str]
    questions: Sequence[str]
    speed: float


async def run_elsewhere(order: Order, done: Callable[[], None]) -> Figures:
    """The figures of a round that another Python process ran."""
    # With this process's own path for imports, and not the folder that it happens to be in. In a session of its own, so
    # that Ctrl-C reaches this process only, which then ends the other.
    command = [sys.executable, "-P", "-m", "tiered_cache.cli._another_process"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    async with await anyio.open_process(
        command, stdin=PIPE, stdout=PIPE, stderr=None, env=environment, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(json.dumps(order._asdict()).encode())
        await process.stdin.aclose()
        rest = ""
        async for text in TextReceiveStream(process.stdout):
            *lines, rest = (rest + text).split("\n")
            for _ in lines:
                done()
        if await process.wait() != 0:
            raise Refusal("the other process did not come to an end; the cause is above")
    return Figures(**json.loads(rest))


async def _run(order: Order) -> Figures:
    async with TieredCache(order.front, order.store, **order.options) as cache:
        application = Application(cache, cache.namespace(*order.path), order.speed)
        return await application.round(order.questions, lambda: print(_DONE, flush=True))


if __name__ == "__main__":
    print(json.dumps(anyio.run(_run, Order(**json.load(sys.stdin)))._asdict()), end="")
