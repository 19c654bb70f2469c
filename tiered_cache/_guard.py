"""What happens when a tier fails, written once: its deadline, what is counted, and what is logged.

The front's failures end here: callers of a guarded front are told that it did not answer, and go on with the store.
The store's are counted here and go on to the caller as StoreUnavailableError.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final, TypeVar

from ._cancel import within
from ._errors import FrontUnavailableError, SchemaError, StoreUnavailableError
from ._options import Options, milliseconds
from ._rule import Step
from ._stats import Recorder, Timed
from ._tiers import Entry, Found, Front, Store

T = TypeVar("T")

logger: Final = logging.getLogger("tiered_cache")


class Condition:
    """Whether something works, logged once per change and not once per call."""

    def __init__(self, what: str, consequence: str) -> None:
        self._what = what
        self._consequence = consequence
        self._failing = False

    def failed(self, error: Exception | str) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("%s: %s; %s", self._what, error, self._consequence)

    def worked(self) -> None:
        if self._failing:
            self._failing = False
            logger.info("%s works again", self._what)


class GuardedFront:
    """A front that answers in time or not at all, and never raises."""

    def __init__(self, front: Front, options: Options, recorder: Recorder) -> None:
        self._front = front
        self._timeout = options.front_timeout
        self._mark_ttl = milliseconds(options.mark_ttl)
        self._recorder = recorder
        self._condition = Condition("the front", "serving from the store alone")

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """The cells, or None where the front did not answer."""
        return await self._exchange("front_read", len(keys), partial(self._front.get, keys))

    async def apply(self, steps: Sequence[Step], token: bytes) -> Sequence[bool] | None:
        """Which steps got their way, or None where the front did not answer: it may have taken them all the same."""
        return await self._exchange("front_step", len(steps), partial(self._front.apply, steps, token, self._mark_ttl))

    async def _exchange(self, kind: Timed, keys: int, call: Callable[[], Awaitable[T]]) -> T | None:
        started = perf_counter()
        try:
            with within(self._timeout):
                answer = await call()
        except (FrontUnavailableError, TimeoutError) as error:
            self._recorder.add("front_errors")
            self._condition.failed(f"no answer within {self._timeout} s" if isinstance(error, TimeoutError) else error)
            return None
        self._recorder.timed(kind, perf_counter() - started, keys)
        self._condition.worked()
        return answer


class GuardedStore:
    """A store whose failures are counted and logged before they are raised."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder
        self._condition = Condition("the store", "serving what the front holds")

    async def setup(self, *, create: bool) -> str:
        return await self._exchange(None, 0, partial(self._store.setup, create=create))

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes]) -> Found:
        return await self._exchange("store_read", len(digests), partial(self._store.read, digests, addresses))

    async def write(self, entries: Sequence[Entry]) -> Sequence[int]:
        return await self._exchange("store_write", len(entries), partial(self._store.write, entries))

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self._exchange("store_delete", len(digests), partial(self._store.delete, digests))

    async def clear(self, address: bytes) -> int:
        return await self._exchange("store_clear", 1, partial(self._store.clear, address))

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        return await self._exchange(None, 0, partial(self._store.names, address, prefix, after, limit))

    async def reclaim(self, limit: int) -> int:
        return await self._exchange(None, 0, partial(self._store.reclaim, limit))

    async def erase(self, address: bytes, limit: int) -> Sequence[bytes]:
        return await self._exchange(None, 0, partial(self._store.erase, address, limit))

    async def _exchange(self, kind: Timed | None, keys: int, call: Callable[[], Awaitable[T]]) -> T:
        started = perf_counter()
        try:
            answer = await call()
        except (StoreUnavailableError, SchemaError) as error:
            self._recorder.add("store_errors")
            self._condition.failed(error)
            raise
        if kind is not None:
            self._recorder.timed(kind, perf_counter() - started, keys)
        self._condition.worked()
        return answer
