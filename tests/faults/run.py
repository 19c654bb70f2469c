"""One fault, from before it begins until all is as it was: what callers saw of it, in figures."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, fields
from time import monotonic
from typing import Any, Final

from tests.faults.load import Call, Load, Stale
from tests.faults.place import (
    BREAKER_RETRY,
    FRONT_CONNECTIONS,
    FRONT_TIMEOUT,
    RECOVERY_INTERVAL,
    STORE_CONNECTIONS,
    STORE_TIMEOUT,
    Place,
)
from tests.faults.table import Fault
from tests.servers import connections, left_open
from tiered_cache import Stats

#: How long it may take until the front serves again. What it waits for: a dead mark (1 s), a database in recovery.
RECOVERY_SECONDS: Final = 20.0

#: Those of the callers and of the background: each has as many connections as configured.
LOOPS: Final = 2

#: Where the front may forget what it acknowledged, older answers are bounded by this alone.
SHORT_FRONT_TTL: Final = 1.5

_LATE_SECONDS: Final = 0.5


def stale_seconds(*, forgets: bool) -> float:
    """How long an older answer may be seen after a change that could not be announced, on a machine that is late."""
    return (SHORT_FRONT_TTL if forgets else BREAKER_RETRY + RECOVERY_INTERVAL) + _LATE_SECONDS


class Listener(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))


@contextmanager
def listening() -> Generator[Listener]:
    listener, logger = Listener(), logging.getLogger("tiered_cache")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield listener
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def no_task_fails_unseen(exceptions: list[str]) -> Generator[None]:
    """What a loop would only have logged: a callback that raised, a task whose exception nobody looked at."""
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # asyncpg's own: connecting was given up, and then the connection broke. Nobody waits for that future.
        if "unexpected connection_lost() call" not in str(context.get("exception")):
            exceptions.append(f"{context['message']}: {context!r}")

    loop.set_exception_handler(note)
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(usual)


@dataclass
class Report:
    """What was seen of one fault. Times in seconds."""

    fault: Fault
    lasted: float
    recovered: float | None
    before: list[Call]
    within: list[Call]
    exceptions: list[str]
    wrong: list[str]
    #: Older answers that no documented case allows; and those that one does, with how long after the end the last was.
    stale: list[Stale]
    allowed: list[Stale]
    last_allowed: float
    counted: Counter[str]
    logged: Counter[str]
    audit: list[str]
    #: Connections to both tiers: while it was settled again, and after the cache was closed.
    held: tuple[int, int]
    left: int

    def times(self, verb: str | None = None, face: str | None = None) -> list[float]:
        return _times(self.within, verb, face)

    def usual_times(self, verb: str) -> list[float]:
        """Before the fault, when both tiers answered."""
        return _times(self.before, verb)

    def outcomes(self, face: str | None = None) -> Counter[str]:
        return Counter(f"{call.verb}: {call.outcome}" for call in self.within if face is None or call.face == face)


def _times(calls: list[Call], verb: str | None = None, face: str | None = None) -> list[float]:
    return sorted(
        call.ended - call.began
        for call in calls
        if (verb is None or call.verb == verb) and (face is None or call.face == face)
    )


def p(share: float, times: list[float]) -> float:
    return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


async def run(fault: Fault, place: Place, *, seconds: float | None = None, seed: int = 0) -> Report:
    options = {"front_ttl": SHORT_FRONT_TTL} if fault.forgets else {}
    cache, other = place.cache(**options), place.cache(front_timeout=2.0, **options)
    bound = stale_seconds(forgets=fault.forgets)
    load = Load(cache, seed=seed)
    with listening() as listener, no_task_fails_unseen(load.seen.exceptions):
        async with load.running():
            assert await load.settled(RECOVERY_SECONDS), "not even before the fault"
            before = cache.stats()
            began = monotonic()
            async with fault.course(place):
                await asyncio.sleep(fault.seconds if seconds is None else seconds)
            ended = monotonic()
            recovered = monotonic() - ended if await load.settled(RECOVERY_SECONDS) else None
            after = cache.stats()
            excused = fault.forgets or after.unmarked > before.unmarked
            if excused:
                await load.nothing_stale(ended + bound)
            held = await place.do(connections, place.front_url), await place.do(connections, place.store_url)
        audit = await load.audit(other)
        while audit and excused and monotonic() < ended + bound:
            audit = await load.audit(other)
        await cache.aclose()
        await other.aclose()
    left = await place.do(left_open, place.front_url) + await place.do(left_open, place.store_url)
    excuse = (began, ended + bound) if excused else (0.0, 0.0)
    allowed = [each for each in load.seen.stale if excuse[0] <= each.began <= excuse[1]]
    return Report(
        fault=fault,
        lasted=ended - began,
        recovered=recovered,
        before=[call for call in load.seen.calls if call.ended <= began],
        within=[call for call in load.seen.calls if call.ended > began and call.began < ended],
        exceptions=load.seen.exceptions,
        wrong=load.seen.wrong,
        stale=[each for each in load.seen.stale if each not in allowed],
        allowed=allowed,
        last_allowed=max((each.began - ended for each in allowed), default=0.0),
        counted=_difference(before, after),
        logged=_said(listener.lines),
        audit=audit,
        held=held,
        left=left,
    )


def _difference(before: Stats, after: Stats) -> Counter[str]:
    """Of all that counts, as one more may come."""
    counts = [each.name for each in fields(Stats) if isinstance(getattr(after, each.name), int)]
    return Counter({name: getattr(after, name) - getattr(before, name) for name in counts})


def _said(lines: Iterable[tuple[str, str]]) -> Counter[str]:
    subjects = ("the front", "the store", "LangChainCache", "LangGraphCache")
    return Counter(
        f"{level} {next((subject for subject in subjects if message.startswith(subject)), message)}"
        for level, message in lines
    )


#: Exchanges with the front that a call may wait for. (Whoever waits for others meanwhile does not wait for it himself.)
_EXCHANGES: Final = {"read": 2, "write": 2}

#: What a busy machine with two cores may add.
ALLOWANCE_SECONDS: Final = 1.0

#: What fails now and then is one line until it has worked for a while, so that a fault is one line. A machine that is
#: late for as long may make it more: so many, and so many in a second.
_MOST_LINES: Final = 2
_MOST_LINES_A_SECOND: Final = 1


def deadline(report: Report, verb: str) -> float:
    """The front's deadline, and the store's own time: its deadline where it is away, else what all takes otherwise.

    That twice, since a batch may wait for the one before it.
    """
    fronts = _EXCHANGES[verb] * FRONT_TIMEOUT
    store = STORE_TIMEOUT if report.fault.tier == "store" else 0
    return fronts + store + 2 * p(0.99, report.usual_times(verb))


def complaints(report: Report) -> list[str]:
    """All that was not as promised."""
    fault = report.fault
    found = [*report.exceptions, *report.wrong, *map(str, report.stale), *report.audit]
    if report.recovered is None:
        found.append(f"the front did not serve again within {RECOVERY_SECONDS} s")
    for verb in ("read", "write"):
        most, took = deadline(report, verb) + ALLOWANCE_SECONDS, p(0.99, report.times(verb))
        if took > most:
            found.append(f"p99 of {verb}s is {took:.2f} s, may be {most:.2f}")
    if fault.slower is not None and p(0.5, report.times(fault.slower[0])) < fault.slower[1]:
        found.append("nothing was slower")
    found += [f"{name} counted nothing" for name in fault.counted if not report.counted[name]]
    found += _complaints_of_the_log(report)
    if report.held[0] > LOOPS * FRONT_CONNECTIONS or report.held[1] > LOOPS * STORE_CONNECTIONS:
        found.append(f"{report.held} connections are held")
    if report.left:
        found.append(f"{report.left} connections were left open")
    return found


def _complaints_of_the_log(report: Report) -> list[str]:
    tier, adapters = f"the {report.fault.tier}", ("LangChainCache", "LangGraphCache")
    lines = {subject: report.logged[f"WARNING {subject}"] for subject in (tier, *adapters)}
    most = _MOST_LINES + _MOST_LINES_A_SECOND * report.lasted
    found = [f"{subject} was logged to fail {n} times" for subject, n in lines.items() if n > most]
    if report.counted[f"{report.fault.tier}_errors"] and not lines[tier]:
        found.append(f"nothing was logged of {tier}")
    if report.counted["adapter_errors"] and not any(lines[adapter] for adapter in adapters):
        found.append("nothing was logged of the adapters")
    return found
