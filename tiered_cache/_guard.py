"""What happens when a tier fails, written once: its deadline, what is counted, and what is logged.

The front's failures end here: callers of a guarded front are told that it did not answer, and go on with the store.
The store's are counted here and go on to the caller as StoreUnavailableError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from math import inf
from time import monotonic, perf_counter
from typing import Literal, TypeVar

from ._breaker import Breaker
from ._cancel import within
from ._errors import ConfigurationError, FrontFailure, FrontUnavailableError, SchemaError, StoreUnavailableError
from ._options import Options, milliseconds
from ._rule import Step
from ._stats import Event, Recorder, Timed, logger
from ._tiers import Emptying, Entry, Found, Front, Notice, Row, Store

T = TypeVar("T")
Failure = TypeVar("Failure", bound=StoreUnavailableError | SchemaError)

FrontExchange = Literal["front_read", "front_step"]

#: How long something must not have failed, to work again.
STEADY_SECONDS = 1.0

# A front bounds its own exchanges and knows more about what it waited for; this is for one that does not.
_LENIENCY = 1.1

# A store bounds its own statements; this is for one that does not. Long enough for two statements in a row.
_OVERDUE = 2.5

# A failure that takes so long, or half of the store's time, is one that people wait for.
_SLOW_SECONDS = 0.5


class Condition:
    """Whether something works, logged once per change and not once per call.

    What fails now and then, or for some calls only, fails: it works again when it has not failed for a while.
    """

    def __init__(self, what: str, consequence: str) -> None:
        self._what = what
        self._consequence = consequence
        self._failing = False
        self._failed_at = 0.0

    def failed(self, error: Exception | str) -> bool:
        """Whether it worked before."""
        changed = not self._failing
        self._failing = True
        self._failed_at = monotonic()
        if changed:
            logger.warning("%s: %s; %s", self._what, error, self._consequence)
        return changed

    def worked(self) -> bool:
        """Whether it had failed until now."""
        if not self._failing or monotonic() - self._failed_at < STEADY_SECONDS:
            return False
        self._failing = False
        logger.info("%s works again", self._what)
        return True


class Silence:
    """When a tier last left somebody without an answer until his deadline, if it has answered nobody since.

    Whoever waited for his turn all that time has waited once already, and is not to wait for the same again.
    """

    def __init__(self) -> None:
        self._noticed = -inf

    def noticed(self) -> None:
        self._noticed = monotonic()

    def ended(self) -> None:
        self._noticed = -inf

    def kept_waiting(self, since: float) -> bool:
        return since <= self._noticed


class GuardedFront:
    """A front that answers in time or not at all, and never raises. One that keeps failing is not asked for a while.

    Reads and steps have a breaker each: a replica, or a server that is out of memory, answers the ones and not the
    others.
    """

    def __init__(self, front: Front, options: Options, recorder: Recorder) -> None:
        self._front = front
        self._timeout = options.front_timeout
        self._mark_ttl = milliseconds(options.mark_ttl)
        self._recorder = recorder
        self._condition = Condition("the front", "serving from the store alone")
        window, retry = options.breaker_window, options.breaker_retry
        self.breakers: dict[FrontExchange, Breaker] = {
            "front_read": Breaker(window, retry, partial(recorder.entered, "front_read")),
            "front_step": Breaker(window, retry, partial(recorder.entered, "front_step")),
        }
        self._silences: dict[FrontExchange, Silence] = {kind: Silence() for kind in self.breakers}

    async def get(self, keys: Sequence[bytes], since: float = inf) -> Sequence[bytes | None] | None:
        """The cells, or None where the front did not answer, or has kept them waiting who ask `since` then."""
        return await self._exchange("front_read", len(keys), partial(self._front.get, keys), since)

    async def apply(
        self, steps: Sequence[Step], token: bytes, mark_ttl: int | None = None, *, since: float = inf
    ) -> Sequence[bool] | None:
        """Which steps got their way, or None where the front did not answer: it may have taken them all the same."""
        call = partial(self._front.apply, steps, token, self._mark_ttl if mark_ttl is None else mark_ttl)
        return await self._exchange("front_step", len(steps), call, since)

    def kept_waiting(self, since: float) -> bool:
        """Whether those who ask for steps since then have waited for the front once, for nothing."""
        return self._silences["front_step"].kept_waiting(since)

    async def _exchange(
        self, kind: FrontExchange, keys: int, call: Callable[[], Awaitable[T]], since: float
    ) -> T | None:
        breaker, silence = self.breakers[kind], self._silences[kind]
        if silence.kept_waiting(since) or not breaker.admits():
            self._recorder.add("front_spared")
            return None
        started = perf_counter()
        try:
            with within(self._timeout * _LENIENCY):
                answer = await call()
        except TimeoutError:
            silence.noticed()
            return self._failed(breaker, "timeout", f"no answer within {self._timeout} s")
        except FrontUnavailableError as error:
            if error.failure == "timeout":
                silence.noticed()
            return self._failed(breaker, error.failure, error)
        except ConfigurationError:
            breaker.gave_up()
            raise
        except Exception as error:  # noqa: BLE001  (anybody may write a front, and no defect of it may break a caller)
            return self._failed(breaker, "other", f"{type(error).__name__}: {error}")
        except BaseException:
            breaker.gave_up()
            raise
        silence.ended()
        breaker.succeeded()
        self._recorder.timed(kind, perf_counter() - started, keys)
        self._condition.worked()
        return answer

    def _failed(self, breaker: Breaker, failure: FrontFailure, error: Exception | str) -> None:
        if failure == "pool_wait":  # our own crowd: sending it to the store would not help
            breaker.gave_up()
        else:
            breaker.failed()
        self._recorder.front_failed(failure)
        self._condition.failed(error)


class GuardedStore:
    """A store whose failures are counted and logged, and all raised as StoreUnavailableError.

    Reads of one that keeps everybody waiting are refused for a while. One that fails at once costs nobody anything, and
    is asked: a miss may cost a call of a model. Changes are tried, but by those who have waited for it once (`spare`).
    """

    def __init__(self, store: Store, options: Options, recorder: Recorder) -> None:
        self._store = store
        self._timeout = options.store_timeout * _OVERDUE
        self._recorder = recorder
        self._condition = Condition("the store", "serving what the front holds")
        self._silences = {"read": Silence(), "change": Silence()}
        self._slow = min(_SLOW_SECONDS, options.store_timeout / 2)
        # No second probe before the first has had its time.
        retry = max(options.breaker_retry, options.store_timeout)
        self.breaker: Breaker = Breaker(options.breaker_window, retry, partial(recorder.entered, "store_read"))

    def spare(self, use: Literal["read", "change"], since: float) -> None:
        """Raises StoreUnavailableError for those who asked `since` then, and waited for a store that did not answer.

        Before what they want is begun.
        """
        if self._silences[use].kept_waiting(since):
            self._recorder.add("store_spared")
            raise StoreUnavailableError("the store answered nobody in all the time that this waited for its turn")

    async def setup(self, *, create: bool) -> str:
        return await self._exchange(None, 0, partial(self._store.setup, create=create))

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        if not self.breaker.admits():
            self._recorder.add("store_spared")
            raise StoreUnavailableError("the store has kept everybody waiting, and is not asked for a while")
        started = perf_counter()
        try:
            call = partial(self._store.read, digests, addresses, stale=stale)
            found = await self._exchange("store_read", len(digests), call)
        except StoreUnavailableError:
            if perf_counter() - started >= self._slow:
                self.breaker.failed()
            else:
                self.breaker.succeeded()
            raise
        except BaseException:
            self.breaker.gave_up()
            raise
        self.breaker.succeeded()
        return found

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        return await self._exchange("store_peek", len(digests), partial(self._store.peek, digests))

    async def now(self) -> int:
        return await self._exchange("store_now", 0, self._store.now)

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes]) -> Sequence[int]:
        return await self._exchange("store_write", len(entries), partial(self._store.write, entries, journal))

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes]) -> None:
        await self._exchange("store_delete", len(digests), partial(self._store.delete, digests, journal))

    async def clear(self, address: bytes, journal: Sequence[bytes]) -> int:
        return await self._exchange("store_clear", 1, partial(self._store.clear, address, journal))

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return await self._exchange("store_journal", 0, partial(self._store.journal, prefix, limit))

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        await self._exchange("store_journal", len(notices), partial(self._store.acknowledge, notices))

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        return await self._exchange(None, 0, partial(self._store.names, address, prefix, after, limit))

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        return await self._exchange(None, 0, partial(self._store.reclaim, limit, empty))

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        return await self._exchange(None, 0, partial(self._store.erase, address, limit, empty))

    async def _exchange(self, kind: Timed | None, keys: int, call: Callable[[], Awaitable[T]]) -> T:
        silence = self._silences["read" if kind == "store_read" else "change"]
        started = perf_counter()
        try:
            if kind is None:  # several statements, as many as it takes
                answer = await call()
            else:
                with within(self._timeout):
                    answer = await call()
        except (StoreUnavailableError, SchemaError) as error:
            if kind is not None and perf_counter() - started >= self._slow:
                silence.noticed()
            self._failed(error)
            raise
        except (ConfigurationError, FrontUnavailableError):
            raise
        except TimeoutError as error:
            silence.noticed()
            raise self._failed(_unavailable(f"no answer within {self._timeout} s")) from error
        except Exception as error:  # anybody may write a store, and a thread may not start
            raise self._failed(_unavailable(f"{type(error).__name__}: {error}")) from error
        if kind is not None:
            silence.ended()
            self._recorder.timed(kind, perf_counter() - started, keys)
        if self._condition.worked():
            self._recorder.happened(Event("store", "working"))
        return answer

    def _failed(self, error: Failure) -> Failure:
        self._recorder.add("store_errors")
        if self._condition.failed(error):
            self._recorder.happened(Event("store", "failing"))
        return error


def _unavailable(what: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"the store failed: {what}", outcome_known=False)
