"""The demo: the same questions in five rounds, each of which meets the cache in another state."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import anyio

from tiered_cache._cache import EMBEDDED_FRONT, TieredCache
from tiered_cache._errors import StoreUnavailableError

from ._another_process import Order, run_elsewhere
from ._refusal import Refusal
from ._round import CALLS_PER_QUESTION, REQUESTS_PER_QUESTION, Application, Figures
from ._screen import Line, Screen, duration

# After this, the cells of a demo that was killed, and those that "front lost" leaves behind, are gone from a Redis.
_FRONT_SECONDS: Final = 600.0
# Connecting from a process that has just started may take longer than the front's usual deadline.
_PATIENCE_SECONDS: Final = 1.0
_CLEANUP_SECONDS: Final = 10.0
_CURE: Final = "(docker compose up -d --wait starts one, and without {option} none is needed)"


def run(*, front: str, store: str | None, prompts: Path | None, speed: float) -> None:
    """Raises Refusal or TieredCacheError with a message for the user.

    However it ends, it leaves nothing behind but cells in a Redis that expire within minutes.
    """
    # What the library logs about tiers that do not answer is said here, once, and with the cure.
    logging.getLogger("tiered_cache").addHandler(logging.NullHandler())
    questions = _questions(prompts)
    with TemporaryDirectory(prefix="tiered-cache-demo-", ignore_cleanup_errors=True) as folder:
        demo = _Demo(front, store or f"sqlite:///{Path(folder, 'store.db')}", questions, speed)
        if store is None and front == EMBEDDED_FRONT:
            demo.where = "the embedded tiers: a front in this process, and a temporary SQLite file"
        anyio.run(demo.run)


class _Demo:
    """One run, under names that no other program and no other run uses."""

    def __init__(self, front: str, store: str, questions: Sequence[str], speed: float) -> None:
        self._front = front
        self._store = store
        self._questions = questions
        self._speed = speed
        self._name = f"tiered_cache_demo_{uuid4().hex[:12]}"
        self._path = ["tiered_cache_demo", self._name]
        self._screen = Screen()
        self._lines: list[Line] = []
        #: What to call the tiers; their repr where empty.
        self.where = ""

    async def run(self) -> None:
        async with self._cache("a") as cache:
            self._screen.say(f"{len(self._questions)} questions to a chat model, and to a graph of two cached nodes")
            self._screen.say(f"on {self.where or repr(cache)}")
            with self._screen.rounds():
                await self._rounds(cache)
        self._screen.table(self._lines)
        self._screen.say(self._summary())

    async def _rounds(self, cache: TieredCache) -> None:
        application = self._application(cache)
        await self._round("cold", application)
        await self._round("warm", application)
        await self._round_elsewhere("another process")
        # Under another prefix the front holds nothing, as after a crash. Nobody's Redis is flushed for that.
        async with self._cache("b") as cache_without_front:
            application = self._application(cache_without_front)
            await self._round("front lost", application)
            await application.answers.aclear()
            await self._round("chat cleared", application)

    async def _round(self, title: str, application: Application) -> None:
        with self._screen.round(title, self._requests) as done:
            self._note(title, await application.round(self._questions, done))

    async def _round_elsewhere(self, title: str) -> None:
        order = Order(self._front, self._store, self._options("a"), self._path, self._questions, self._speed)
        with self._screen.round(title, self._requests) as done:
            self._note(title, await run_elsewhere(order, done))

    def _note(self, title: str, figures: Figures) -> None:
        cold = self._lines[0].figures if self._lines else figures
        self._lines.append(Line(title, figures, sum(cold.latencies) - sum(figures.latencies)))

    def _application(self, cache: TieredCache) -> Application:
        return Application(cache, cache.namespace(*self._path), self._speed)

    def _options(self, part: str) -> dict[str, Any]:
        return {"prefix": f"{self._name}_{part}", "front_ttl": _FRONT_SECONDS, "front_timeout": _PATIENCE_SECONDS}

    @asynccontextmanager
    async def _cache(self, part: str) -> AsyncGenerator[TieredCache]:
        async with aclosing(TieredCache(self._front, self._store, **self._options(part))) as cache:
            try:
                await cache.setup()
            except StoreUnavailableError as error:
                raise Refusal(f"{error} {_CURE.format(option='--store')}") from error
            await self._probe_front(cache)
            try:
                yield cache
            finally:
                await self._clean_up(cache)

    async def _probe_front(self, cache: TieredCache) -> None:
        await cache.namespace(*self._path).get("probe")
        if cache.stats().front_errors:
            raise Refusal(
                f"the front does not answer in {cache!r}: is the server running and reachable, and is its URL right? "
                + _CURE.format(option="--front")
            )

    async def _clean_up(self, cache: TieredCache) -> None:
        with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
            try:
                await cache.namespace(*self._path).erase()
            except StoreUnavailableError:
                self._screen.say(f"the store is gone: what is in its namespace {self._path} could not be removed")

    @property
    def _requests(self) -> int:
        return len(self._questions) * REQUESTS_PER_QUESTION

    def _summary(self) -> str:
        made = sum(line.figures.model_calls for line in self._lines)
        asked = len(self._lines) * len(self._questions) * CALLS_PER_QUESTION
        saved = sum(line.saved for line in self._lines)
        return (
            f"Without the cache: {asked} model calls. With it: {made}. Callers waited {duration(max(saved, 0))} less, "
            "all their waiting added up."
        )


def _questions(prompts: Path | None) -> list[str]:
    """One a line, each once."""
    try:
        source = files("tiered_cache.cli").joinpath("questions.txt") if prompts is None else prompts
        text = source.read_text("utf-8-sig")
    except OSError as error:
        raise Refusal(f"the file of prompts cannot be read ({error.strerror}: {prompts}): correct --prompts") from error
    except UnicodeDecodeError as error:
        raise Refusal(f"the file of prompts is not UTF-8 ({prompts}): convert it, or correct --prompts") from error
    questions = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not questions:
        raise Refusal(f"the file of prompts is empty ({prompts}): it holds one question a line")
    return questions
