"""Callers who read and write through both adapters, and on the engine; and what they must never be told.

A key's value is a function of the key and a version, and each key has one writer. So of any answer it can be told
whether it was ever written, and whether it is older than what had been acknowledged when the reader began.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from time import monotonic
from typing import Any, Final, Literal, NamedTuple, Protocol

from langchain_core.outputs import Generation

from tiered_cache import MISSING, StoreUnavailableError, TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.langgraph import LangGraphCache

#: Of ten calls, so many ask for what is there, and for what never was; the rest write, one in four of them a new key.
_HOT: Final = 8
_ABSENT: Final = 1
_OF: Final = 10
_ONE_IN_NEW: Final = 4

_SETTLED_READS: Final = 100
# Less than all: those being written are not in the front.
_SETTLED_RATIO: Final = 0.9

_ATTEMPTS: Final = 10

#: In this time every key is asked for several times.
_QUIET_SECONDS: Final = 0.4


class Face(Protocol):
    """One way of asking: None where nothing was found. What it raises is its own to explain."""

    @property
    def name(self) -> str: ...

    @property
    def may_raise(self) -> tuple[type[Exception], ...]:
        """What a failing store makes of a call: nothing, through the adapters."""
        ...

    async def read(self, key: str) -> str | None: ...

    async def write(self, key: str, text: str) -> None: ...


class ByLangChain:
    name = "LangChainCache"
    may_raise = ()

    def __init__(self, cache: TieredCache) -> None:
        self._answers = LangChainCache(cache)

    async def read(self, key: str) -> str | None:
        found = await self._answers.alookup(key, "model")
        return None if found is None else found[0].text

    async def write(self, key: str, text: str) -> None:
        await self._answers.aupdate(key, "model", [Generation(text=text)])


class ByLangGraph:
    name = "LangGraphCache"
    may_raise = ()

    def __init__(self, cache: TieredCache) -> None:
        self._results: LangGraphCache[Any] = LangGraphCache(cache)

    async def read(self, key: str) -> str | None:
        found = await self._results.aget([(("node",), key)])
        return next(iter(found.values()))["text"] if found else None

    async def write(self, key: str, text: str) -> None:
        await self._results.aset({(("node",), key): ({"text": text}, None)})


class OnEngine:
    name = "the engine"
    may_raise = (StoreUnavailableError,)

    def __init__(self, cache: TieredCache) -> None:
        self._space = cache.namespace("engine")

    async def read(self, key: str) -> str | None:
        found = await self._space.get(key, MISSING)
        return None if found is MISSING else found

    async def write(self, key: str, text: str) -> None:
        await self._space.set(key, text)


def faces_of(cache: TieredCache) -> list[Face]:
    return [ByLangChain(cache), ByLangGraph(cache), OnEngine(cache)]


def text_of(key: str, version: int) -> str:
    return f"{key}|{version}|{sha256(f'{key}|{version}'.encode()).hexdigest() * 32}"


def version_of(key: str, text: str) -> int | None:
    """None for what was never written under this key."""
    parts = text.split("|")
    version = int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0
    return version if version and text == text_of(key, version) else None


@dataclass
class Known:
    """What the writer of a key knows of it."""

    issued: int = 0
    acknowledged: int = 0


Verb = Literal["read", "write"]


class Call(NamedTuple):
    face: str
    verb: Verb
    began: float
    ended: float
    #: "hit", "miss", "without" (a miss, or a write dropped, and counted as a failure), "raised", "stored".
    outcome: str


class Stale(NamedTuple):
    """An answer older than what had been acknowledged when its reader began."""

    key: str
    began: float
    version: int
    acknowledged: int

    def __str__(self) -> str:
        return f"{self.key}: version {self.version} after {self.acknowledged} had been acknowledged"


@dataclass
class Seen:
    """What all callers were told."""

    calls: list[Call] = field(default_factory=list[Call])
    exceptions: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    stale: list[Stale] = field(default_factory=list[Stale])
    hot_reads: int = 0


class Load:
    """`callers` of each adapter, and a few on the engine, over one cache; each pauses between calls, as clients do."""

    def __init__(
        self,
        cache: TieredCache,
        *,
        callers: int = 64,
        pause: float = 0.06,
        seed: int = 0,
        on_call: Callable[[Call], None] | None = None,
        most_new: int = 1 << 30,
    ) -> None:
        """Each call is told to `on_call`, else kept; `most_new`: after so many new keys the first are written again."""
        self.cache = cache
        self.seen = Seen()
        self._on_call = on_call or self.seen.calls.append
        self._most_new = most_new
        self.known: dict[tuple[str, str], Known] = {}
        self._faces = faces_of(cache)
        self._crowds = {face.name: callers if not face.may_raise else 8 for face in self._faces}
        self._pause = pause
        self._random = random.Random(seed)
        self._numbers = count()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failures(self) -> int:
        """What the adapters have counted; asked for twice a call, so without the rest of `stats()`."""
        return self.cache.view.shared.recorder._counts["adapter_errors"]

    def keys_of(self, face: Face) -> list[str]:
        return [f"key {n}" for n in range(self._crowds[face.name])]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Every key is there before the crowd comes."""
        await self._set_up()
        await asyncio.gather(*(self._write(face, key) for face in self._faces for key in self.keys_of(face)))
        self._tasks = [
            asyncio.create_task(self._call_for_ever(face, key)) for face in self._faces for key in self.keys_of(face)
        ]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*self._tasks)

    async def _set_up(self) -> None:
        """A machine that is late may need more than one attempt to connect in so short a time."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(StoreUnavailableError):
                return await self.cache.setup()
        return await self.cache.setup()

    async def _call_for_ever(self, face: Face, own: str) -> None:
        keys = self.keys_of(face)
        while not self._stopping:
            await asyncio.sleep(self._random.random() * 2 * self._pause)
            match self._random.randrange(_OF):
                case n if n < _HOT:
                    self.seen.hot_reads += 1
                    await self._read(face, self._random.choice(keys))
                case n if n < _HOT + _ABSENT:
                    await self._read(face, f"absent {next(self._numbers)}")
                case _:
                    new = self._random.randrange(_ONE_IN_NEW) == 0
                    await self._write(face, f"new {next(self._numbers) % self._most_new}" if new else own)

    async def _timed(self, face: Face, verb: Verb, call: Awaitable[Any], judge: Callable[[Any, bool], str]) -> None:
        began, failures = monotonic(), self.failures
        try:
            answer = await call
        except face.may_raise:
            outcome = "raised"
        except Exception as error:  # noqa: BLE001  (of any kind: none is to reach a caller)
            self.seen.exceptions.append(f"{face.name}: {verb}: {error!r}")
            outcome = "raised"
        else:
            outcome = judge(answer, self.failures != failures)
        self._on_call(Call(face.name, verb, began, monotonic(), outcome))

    async def _read(self, face: Face, key: str) -> None:
        began = monotonic()
        known = self.known.get((face.name, key), Known())
        acknowledged, issued = known.acknowledged, known.issued

        def judge(text: str | None, failures: bool) -> str:
            if text is None:
                # A result set while LangGraph asks for it is held back from it.
                if acknowledged and not failures and known.issued == issued:
                    self.seen.wrong.append(f"{face.name}: {key} is lost, version {acknowledged} was acknowledged")
                return "without" if failures else "miss"
            version = version_of(key, text)
            if version is None or version > known.issued:
                self.seen.wrong.append(f"{face.name}: {key} never was {text[:80]!r}")
            elif version < acknowledged:
                self.seen.stale.append(Stale(f"{face.name}: {key}", began, version, acknowledged))
            return "hit"

        await self._timed(face, "read", face.read(key), judge)

    async def _write(self, face: Face, key: str) -> None:
        known = self.known.setdefault((face.name, key), Known())
        known.issued += 1
        version = known.issued

        def judge(_: None, failures: bool) -> str:
            # Somebody else's failure makes ours unknown as well: `stats()` does not say whose it was.
            if failures:
                return "without"
            known.acknowledged = version
            return "stored"

        await self._timed(face, "write", face.write(key, text_of(key, version)), judge)

    async def settled(self, patience_seconds: float) -> bool:
        """Whether, within that time, reads are answered by the front again, and writes go through."""
        deadline = monotonic() + patience_seconds
        while monotonic() < deadline:
            stats, hot = self.cache.stats(), self.seen.hot_reads
            while self.seen.hot_reads - hot < _SETTLED_READS and monotonic() < deadline:
                await _a_moment()
            now = self.cache.stats()
            served = (now.hits_front - stats.hits_front) / max(1, self.seen.hot_reads - hot)
            if served >= _SETTLED_RATIO and now.adapter_errors == stats.adapter_errors and now.sets > stats.sets:
                return True
        return False

    async def nothing_stale(self, deadline: float) -> None:
        """Returns when no older answer has been seen for a while, or at the deadline."""
        while monotonic() < deadline:
            seen, until = len(self.seen.stale), min(deadline, monotonic() + _QUIET_SECONDS)
            while monotonic() < until and len(self.seen.stale) == seen:
                await _a_moment()
            if len(self.seen.stale) == seen:
                return

    async def audit(self, cache: TieredCache) -> list[str]:
        """What another process is told of every key, twice, when all is quiet."""
        complaints: list[str] = []

        async def ask(face: Face, key: str, known: Known) -> None:
            for _ in range(2):
                text = await face.read(key)
                version = None if text is None else version_of(key, text)
                if version is None or not known.acknowledged <= version <= known.issued:
                    complaints.append(f"{face.name}: {key} is {version}, {known} says its writer")

        faces = {face.name: face for face in faces_of(cache)}
        wanted = [(faces[name], key, known) for (name, key), known in self.known.items() if known.acknowledged]
        await asyncio.gather(*(ask(*each) for each in wanted))
        return complaints


async def _a_moment() -> None:
    await asyncio.sleep(0.02)
