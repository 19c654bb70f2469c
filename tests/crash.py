"""A process that is killed at a given step: between the tiers, in the middle of what it does.

    python -m tests.crash REDIS_URL POSTGRES_URL

For each line of JSON (a `Death`) that it reads, it forks a child, which does what the line says until it has come to
that step, and there gets SIGKILL from itself. It answers "killed", or "done" where there is no such step any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.naive import NaiveCache
from tiered_cache import TieredCache
from tiered_cache._keys import Scope
from tiered_cache._options import OptionsDict
from tiered_cache._redis import RedisFront
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._faults import Act, Exchange, When

Verb = Literal["set", "delete", "clear", "get", "get_or_compute"]
VERBS: Final[tuple[Verb, ...]] = ("set", "delete", "clear", "get", "get_or_compute")

#: Marks and leases that nobody settles are gone soon; everything else is left time on a busy machine.
MARK_SECONDS: Final = 2.0
STORE_SECONDS: Final = 1.9
OPTIONS: Final = OptionsDict(front_timeout=5.0, store_timeout=STORE_SECONDS, mark_ttl=MARK_SECONDS, lease_ttl=1.0)


@dataclass(frozen=True)
class Death:
    """Of whom, doing what, at which step."""

    namespace: str
    verb: Verb
    step: int
    naive: bool


class Steps:
    """Counts the steps: before and after each exchange with a tier."""

    def __init__(self, last: int) -> None:
        self._last = last
        self.taken = 0
        self.counting = False

    def take(self) -> None:
        if self.counting:
            if self.taken == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.taken += 1


class DyingFront(FaultyFront):
    def __init__(self, steps: Steps, url: str) -> None:
        super().__init__(RedisFront(url, timeout=5))
        self._steps = steps

    async def _meet(self, exchange: Exchange, when: When, by_chance: Act | None) -> None:
        self._steps.take()
        await super()._meet(exchange, when, by_chance)


class DyingStore(FaultyStore):
    def __init__(self, steps: Steps, url: str) -> None:
        super().__init__(SqlStore(url, timeout=STORE_SECONDS))
        self._steps = steps

    async def _meet(self, exchange: Exchange, when: When, by_chance: Act | None) -> None:
        self._steps.take()
        await super()._meet(exchange, when, by_chance)


async def die(death: Death, redis_url: str, postgres_url: str) -> None:
    steps = Steps(death.step)
    front, store = DyingFront(steps, redis_url), DyingStore(steps, postgres_url)
    if death.naive:
        prefix = f"tiered_cache:{await store.setup(create=True)}:".encode()
        space: Any = NaiveCache(front, store, prefix, Scope((death.namespace,)), ["k"])
    else:
        cache = TieredCache(front, store, **OPTIONS)
        await cache.setup()
        cache.view.shared.engine.on_change = lambda _: None
        cache.view.shared.engine.on_use = lambda _: None
        space = cache.namespace(death.namespace)
    steps.counting = True
    match death.verb:
        case "set":
            await space.set("k", "new")
        case "delete":
            await space.delete("k")
        case "clear":
            await space.clear()
        case "get":
            await space.get("k")
        case _:

            async def compute() -> str:
                steps.take()
                return "new"

            await space.get_or_compute("k", compute)


class Deaths:
    """The parent of those who die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def of(self, death: Death) -> bool:
        """Whether it was killed; else it had done what it was to do."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(death)) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().strip()
        assert said in ("killed", "done"), said
        return said == "killed"


@contextmanager
def deaths(redis_url: str, postgres_url: str) -> Generator[Deaths]:
    command = [sys.executable, "-m", "tests.crash", redis_url, postgres_url]
    here = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Deaths(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(die(Death(**json.loads(line)), *sys.argv[1:]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write("killed\n" if killed else "done\n" if status == 0 else f"failed: {status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
