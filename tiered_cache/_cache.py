"""The cache itself: the root namespace, and what belongs to the whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self, Unpack

import anyio
import redis
import redis.asyncio
from sqlalchemy import Engine as SyncEngine
from sqlalchemy.ext.asyncio import AsyncEngine

from . import _portal as portal
from ._audit import AGES, Auditor, Findings
from ._background import Courier, Reclaimer
from ._clock import StoreClock, elapsed
from ._codecs import Codec, PlainCodec, checked
from ._engine import Engine
from ._errors import ConfigurationError
from ._flights import Flights
from ._keys import scope_of
from ._memory import MemoryFront
from ._namespace import Namespace
from ._near import NearFront
from ._observe import Observer, Observers
from ._options import LOCAL_FRONT_TTL, SHARED_FRONT_TTL, Options, OptionsDict, check_ttl, options_from_env
from ._redis import RedisFront
from ._sql import SqlStore
from ._stats import Audited, Event, Recorder, Stats
from ._tiers import Front, Store
from ._view import Settings, Shared, View

EMBEDDED_FRONT = "memory://"
EMBEDDED_STORE = "sqlite:///tiered_cache.db"

_process_front: MemoryFront | None = None
_lock = threading.Lock()

FrontSource = str | redis.Redis | redis.asyncio.Redis | Front
StoreSource = str | SyncEngine | AsyncEngine | Store


class TieredCache(Namespace):
    """A cache of two tiers: a fast front that may lose anything, over a durable store that is the truth.

    `front` is a URL (`redis://`, `rediss://`, `unix://`; `memory://` is the front that this process has for all its
    caches, the default), a ready-made redis-py client, or a `Front` of your own. `store` is a URL (`sqlite:///file.db`,
    `postgresql+asyncpg://...`; the default is the file `tiered_cache.db` in the working directory), a ready-made
    SQLAlchemy engine, or a `Store` of your own. `codec` is how values become bytes where a namespace has none of its
    own. `on_event` is called, in whatever thread it happens, when a tier stops or begins to be asked or to work.
    `clock` is for tests whose store has a clock of theirs: the same, to count the seconds between what the store says
    of the time. The rest are the fields of `Options`. Raises ConfigurationError for what is wrong with any of these.

    The object belongs to no event loop: make it where you like, at import time too, and use it from any loop, any
    thread, and after a fork. `async with` makes the store ready at the beginning, runs the background work within, and
    closes everything at the end. Without it the first use makes the store ready, connections are closed when their
    loop ends, and `aclose` or `close` may be called at any time.
    """

    def __init__(
        self,
        front: FrontSource | None = None,
        store: StoreSource | None = None,
        *,
        codec: Codec | None = None,
        on_event: Callable[[Event], object] | None = None,
        clock: Callable[[], float] = elapsed,
        **options: Unpack[OptionsDict],
    ) -> None:
        given = Options.of(options)
        recorder = Recorder(on_event)
        self._front = _front_of(EMBEDDED_FRONT if front is None else front, given, recorder)
        self._store = _store_of(EMBEDDED_STORE if store is None else store, given)
        self._opened = [tier for tier in (self._front, self._store) if tier not in (front, store, _process_front)]
        local = isinstance(self._front, MemoryFront)
        self.options: Options = given.with_front_ttl(LOCAL_FRONT_TTL if local else SHARED_FRONT_TTL)
        engine = Engine(self._front, self._store, self.options, recorder, local=local, clock=StoreClock(clock))
        self._reclaimer = Reclaimer(engine, self.options)
        engine.on_change = self._reclaimer.note
        self._courier = None if local else Courier(engine, self.options)
        if self._courier is not None:
            engine.on_use = self._courier.note
        self._findings = Findings()
        self._auditor = Auditor(engine, self.options.audit_share, AGES, self._findings.add)
        if self.options.audit_share:
            engine.on_hits = (self._auditor.note,)
        self._stack: AsyncExitStack | None = None
        shared = Shared(
            engine,
            Flights(),
            recorder,
            self.options.serve_miss,
            self.options.compress_above,
            self.options.lease_ttl,
            Observers(),
        )
        super().__init__(
            View(shared, scope_of(()), Settings(self.options.ttl, PlainCodec() if codec is None else checked(codec)))
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, codec: Codec | None = None) -> Self:
        """A cache as `TIERED_CACHE_FRONT`, `TIERED_CACHE_STORE` and `TIERED_CACHE_<OPTION>` say."""
        front, store = environ.get("TIERED_CACHE_FRONT"), environ.get("TIERED_CACHE_STORE")
        return cls(front or None, store or None, codec=codec, **options_from_env(environ))

    async def setup(self) -> None:
        """Makes the store ready, now. Safe to repeat, and to run in many processes at once.

        Raises StoreUnavailableError, and SchemaError for tables that are missing (with `setup="never"`), of a newer
        release, or not of this package.
        """
        await self.view.shared.engine.access.open()

    def ddl(self) -> str:
        """The statements that create the tables, for those who manage their schema themselves (`setup="never"`)."""
        if not isinstance(self._store, SqlStore):
            raise ConfigurationError(f"a {type(self._store).__name__} has no DDL: only SQL stores do")
        return self._store.ddl()

    def stats(self) -> Stats:
        """What this object did since it was made."""
        return self.view.shared.recorder.snapshot(self._findings.by_age, self.view.shared.engine.breakers)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Has `observer` told of every operation of this cache's users, through the adapters too, from now on.

        Returns what ends that. The observer is called once for each operation, when it ends, with an `Operation`; one
        with methods `begin` and `end` is a `SpanObserver`. It is called in whatever thread and loop the operation ends
        and keeps its caller waiting, so it must be quick; what it raises is logged. Not told of: arguments that are
        refused before anything is asked, listing `keys`, and what the background does. Changes in the state of a tier
        are nobody's operation: `on_event` is told of them. Raises ConfigurationError for what is no observer.
        """
        return self.view.shared.observers.add(observer)

    async def audit(
        self, seconds: float = 10.0, *, share: float = 1.0, ages: Sequence[float] = (1.0,)
    ) -> Mapping[float, Audited]:
        """Compares hits in the front with the store, and returns what was found, by age.

        For `seconds`, a `share` of the hits of all callers of this object is looked at again when it is as old as each
        of the `ages`, in seconds; so this takes as long as both together. A thousand may wait at a time, and more are
        passed over. For an audit that never ends there is the option `audit_share`. Raises ConfigurationError for what
        is wrong with any of these.
        """
        if not 0 < share <= 1 or not ages:
            raise ConfigurationError(f"a share is above 0 and up to 1, and there is at least one age: {share}, {ages}")
        for each in (seconds, *ages):
            check_ttl(each)
        engine, findings = self.view.shared.engine, Findings()
        auditor = Auditor(engine, share, tuple(ages), findings.add)
        told = auditor.note
        engine.on_hits += (told,)
        try:
            await anyio.sleep(seconds)
        finally:
            engine.on_hits = tuple(each for each in engine.on_hits if each is not told)
        await auditor.until_done()
        return findings.by_age

    async def reclaim(self) -> int:
        """Removes one batch of expired and cleared rows (the option `reclaim_rows`) and returns how many.

        The background does this by itself; call it until it returns 0 to have the space back at once. Raises
        FrontUnavailableError where cleared rows have to stay because their cells could not be emptied.
        """
        return await self.view.shared.engine.upkeep.reclaim()

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise ConfigurationError("this cache is inside an `async with` already; share the object instead")
        self._stack = AsyncExitStack()  # before anything is awaited: another task may come meanwhile
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self.aclose)
                if self.options.setup != "background":
                    await self.setup()
                tasks = await stack.enter_async_context(anyio.create_task_group())
                tasks.start_soon(self._reclaimer.run)
                if self._courier is not None:
                    tasks.start_soon(self._courier.run)
                stack.callback(tasks.cancel_scope.cancel)
                self._stack = stack.pop_all()
        except BaseException:
            self._stack = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is None:
            return
        if isinstance(error, anyio.get_cancelled_exc_class()):
            await stack.__aexit__(kind, error, traceback)
        else:  # told of the caller's exception, a task group would wrap it in a group
            await stack.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Closes the connections that this object opened, those of other loops included. A later use opens new ones."""
        with anyio.CancelScope(shield=True):
            self._auditor.stop()
            await self._reclaimer.stop()
            if self._courier is not None:
                await self._courier.stop()
            await self.view.shared.engine.aclose()
            for tier in self._opened:
                await tier.aclose()

    def close(self) -> None:
        """`aclose` for synchronous callers."""
        portal.call(self.aclose)

    def __repr__(self) -> str:
        return f"<TieredCache front={self._front!r} store={self._store!r}>"


def _front_of_process(max_bytes: int) -> MemoryFront:
    """One for all caches of this process: what one of them writes, the others see. Stores do not mix in it."""
    global _process_front
    with _lock:
        if _process_front is None:
            _process_front = MemoryFront(max_bytes)
        _process_front.grow(max_bytes)
        return _process_front


def _front_of(source: FrontSource, options: Options, recorder: Recorder) -> Front:
    front = _shared_front_of(source, options)
    if not options.near_bytes:
        return front
    if not isinstance(front, RedisFront) or front is source:
        raise ConfigurationError(
            "near_bytes is for what a Redis holds: give the front as redis://... or as a redis-py client, or leave "
            "near_bytes at 0 (memory:// is in this process already)"
        )
    return NearFront(
        front,
        f"{options.prefix}:".encode(),
        max_bytes=options.near_bytes,
        staleness=options.near_staleness,
        note=partial(recorder.add, "hits_near"),
    )


def _shared_front_of(source: FrontSource, options: Options) -> Front:
    if isinstance(source, str) and source.startswith("memory:"):
        return _front_of_process(options.front_bytes)
    if isinstance(source, str | redis.Redis | redis.asyncio.Redis):
        return RedisFront(source, max_connections=options.front_connections, timeout=options.front_timeout)
    if all(hasattr(source, verb) for verb in ("get", "apply", "aclose")):
        return source
    raise ConfigurationError(f"a front is a URL, a redis-py client or a Front, not {type(source).__name__}")


def _store_of(source: StoreSource, options: Options) -> Store:
    if isinstance(source, str | SyncEngine | AsyncEngine):
        return SqlStore(
            source,
            table_prefix=options.table_prefix,
            schema=options.schema,
            pool_size=options.store_connections,
            timeout=options.store_timeout,
        )
    if all(hasattr(source, verb) for verb in ("setup", "read", "peek", "now", "write", "delete", "clear", "aclose")):
        return source
    raise ConfigurationError(f"a store is a URL, a SQLAlchemy engine or a Store, not {type(source).__name__}")
