"""Test doubles for the engine: tiers watched, stopped and broken at will, and a store in a dict.

front, store = WatchedFront(inner), WatchedStore(inner)     one pair a process, over the same inner tiers
gate = store.stop("read", "after")                          the next read stops once it has its answer
await gate.reached()                                        ... somebody has come that far
gate.open()                                                 ... and goes on
store.fail("write", "after")                                the next write commits and does not say so
packet = front.delay("mark_write")                          the next mark seems lost; `await packet.deliver()` later
store.down = True                                           nothing answers any more
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

import anyio

from tiered_cache import Entry, Found, Front, Row, Step, Store
from tiered_cache._errors import FrontUnavailableError, StoreUnavailableError
from tiered_cache._keys import LEVEL_BYTES
from tiered_cache._tiers import Emptying, Notice

T = TypeVar("T")

When = Literal["before", "after"]

PATIENCE_SECONDS: Final = 20.0

_STEP_NAMES: Final = {"r": "mark_read", "w": "mark_write", "R": "settle_read", "W": "settle_write"}


class Gate:
    """Stops the one call that comes to it until it is opened."""

    def __init__(self) -> None:
        self._reached = anyio.Event()
        self._opened = anyio.Event()

    async def reached(self) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            await self._reached.wait()

    def open(self) -> None:
        self._opened.set()

    async def wait(self) -> None:
        self._reached.set()
        await self._opened.wait()


class Computation:
    """Counts its runs; stops at a gate each time, if there is one."""

    def __init__(self, result: Any = "computed", gate: Gate | None = None) -> None:
        self.runs = 0
        self.result = result
        self.gate = gate

    async def __call__(self) -> Any:
        self.runs += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Call(NamedTuple):
    """One exchange with a tier, and how many keys were in it."""

    name: str
    keys: int


class _Watched:
    """Counts calls, and does what a test planned for the next one of a name. Each plan is used once."""

    unavailable: type[FrontUnavailableError | StoreUnavailableError]

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.down = False
        self._plans: list[tuple[str, When, Callable[[], Awaitable[None]]]] = []

    def count(self, name: str) -> int:
        return self.counts[name]

    @property
    def counts(self) -> Counter[str]:
        return Counter(call.name for call in self.calls)

    def stop(self, name: str, when: When) -> Gate:
        gate = Gate()
        self._plans.append((name, when, gate.wait))
        return gate

    def fail(self, name: str, when: When, error: Exception | None = None) -> None:
        async def raise_it() -> None:
            raise error or self.unavailable(f"{name} fails, as planned")

        self._plans.append((name, when, raise_it))

    def forget_plans(self) -> None:
        self._plans.clear()

    async def _watch(self, name: str, keys: int, work: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(Call(name, keys))
        if self.down:
            raise self.unavailable("down, as planned")
        await self._pass(name, "before")
        answer = await work()
        await self._pass(name, "after")
        return answer

    async def _pass(self, name: str, when: When) -> None:
        for plan in self._plans:
            if plan[:2] == (name, when):
                self._plans.remove(plan)
                await plan[2]()
                return


class Packet:
    """A call that its sender has given up, and that arrives all the same, later."""

    def __init__(self) -> None:
        self.work: Callable[[], Awaitable[object]] | None = None

    async def deliver(self) -> None:
        assert self.work is not None, "nothing was sent"
        await self.work()


class WatchedFront(_Watched):
    """Its calls are "get", "mark_read", "mark_write", "settle_read" and "settle_write"."""

    unavailable = FrontUnavailableError

    def __init__(self, inner: Front) -> None:
        super().__init__()
        self.inner = inner
        self._delayed: list[tuple[str, Packet]] = []

    def delay(self, name: str) -> Packet:
        packet = Packet()
        self._delayed.append((name, packet))
        return packet

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return await self._watch("get", len(keys), lambda: self.inner.get(keys))

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        (name,) = {_STEP_NAMES[step.op] for step in steps}
        for delayed in self._delayed:
            if delayed[0] == name:
                self._delayed.remove(delayed)
                delayed[1].work = lambda: self.inner.apply(steps, token, mark_ttl)
                raise FrontUnavailableError("no answer in time, as planned")
        return await self._watch(name, len(steps), lambda: self.inner.apply(steps, token, mark_ttl))

    async def aclose(self) -> None:
        await self.inner.aclose()


class WatchedStore(_Watched):
    """Its calls are named like the methods of a store."""

    unavailable = StoreUnavailableError

    def __init__(self, inner: Store) -> None:
        super().__init__()
        self.inner = inner

    async def setup(self, *, create: bool) -> str:
        return await self._watch("setup", 0, lambda: self.inner.setup(create=create))

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        return await self._watch("read", len(digests), lambda: self.inner.read(digests, addresses, stale=stale))

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        return await self._watch("write", len(entries), lambda: self.inner.write(entries, journal))

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        await self._watch("delete", len(digests), lambda: self.inner.delete(digests, journal))

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        return await self._watch("clear", 1, lambda: self.inner.clear(address, journal))

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return await self._watch("journal", 0, lambda: self.inner.journal(prefix, limit))

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        await self._watch("acknowledge", len(notices), lambda: self.inner.acknowledge(notices))

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        return await self._watch("names", 0, lambda: self.inner.names(address, prefix, after, limit))

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        return await self._watch("reclaim", 0, lambda: self.inner.reclaim(limit, empty))

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        return await self._watch("erase", 0, lambda: self.inner.erase(address, limit, empty))

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Kept(NamedTuple):
    version: int
    expires: float | None
    entry: Entry

    def gone(self, now: float, *, stale: bool = True) -> bool:
        return self.expires is not None and self.expires + (self.entry.grace if stale else 0) <= now


class DictStore:
    """A store in a dict: the least that the protocol asks of somebody who writes one. `clock` counts milliseconds."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0, identity: str = "dict") -> None:
        self.rows: dict[bytes, _Kept] = {}
        self.watermarks: dict[bytes, int] = {}
        self.notices: dict[bytes, int] = {}
        self._version = 0
        self._clock = clock
        self._identity = identity

    async def setup(self, *, create: bool) -> str:
        return self._identity

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        rows: dict[bytes, Row] = {}
        for digest in digests:
            kept = self.rows.get(digest)
            if kept is not None and not kept.gone(self._clock(), stale=stale):
                left = None if kept.expires is None else int(kept.expires - self._clock())
                rows[digest] = Row(kept.version, left, kept.entry.envelope)
        return Found(rows, {a: self.watermarks[a] for a in addresses if a in self.watermarks})

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        self._record(journal)
        for entry in entries:
            expires = None if entry.ttl is None else self._clock() + entry.ttl
            self.rows[entry.digest] = _Kept(self._next(), expires, entry)
        return [self.rows[entry.digest].version for entry in entries]

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        self._record(journal)
        for digest in digests:
            self.rows.pop(digest, None)

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        self._record(journal)
        self.watermarks[address] = self._next()
        return self.watermarks[address]

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return [Notice(*notice) for notice in self.notices.items() if notice[0].startswith(prefix)][:limit]

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        for cell, version in notices:
            if self.notices.get(cell) == version:
                del self.notices[cell]

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        found = [
            (digest, kept.entry.name)
            for digest, kept in sorted(self.rows.items())
            if digest > after
            and kept.entry.address == address
            and kept.entry.name is not None
            and kept.entry.name.startswith(prefix)
            and not kept.gone(self._clock(), stale=False)
            and not self._cleared(kept)
        ]
        return found[:limit]

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        return await self._remove(limit, empty, lambda kept: kept.gone(self._clock()) or self._cleared(kept))

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        floor = self.watermarks.get(address, 0)
        return await self._remove(
            limit, empty, lambda kept: kept.entry.address.startswith(address) and kept.version < floor
        )

    async def aclose(self) -> None:
        """Keeps everything: it may be used again."""

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _record(self, journal: Sequence[bytes]) -> None:
        for cell in journal:
            self.notices[cell] = self._next()

    def _cleared(self, kept: _Kept) -> bool:
        address = kept.entry.address
        above = (address[:end] for end in range(0, len(address) + 1, LEVEL_BYTES))
        return any(kept.version < self.watermarks.get(a, 0) for a in above)

    async def _remove(self, limit: int, empty: Emptying, unwanted: Callable[[_Kept], bool]) -> int:
        digests = [digest for digest, kept in self.rows.items() if unwanted(kept)][:limit]
        if digests:
            await empty(digests)
        gone = [digest for digest in digests if digest in self.rows and unwanted(self.rows[digest])]
        for digest in gone:
            del self.rows[digest]
        return len(gone)
