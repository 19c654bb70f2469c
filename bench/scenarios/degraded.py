"""A tier fails in mid-run and comes back: a time line of nine reads to one write, at a rate that everybody can serve.

The tier stands behind a proxy that makes it slow, silent (stopped) or dead (killed, its port refusing); a cold front is
flushed, where the Redis was started for this run, and else robbed of the keys of this sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from bench.forget import forget
from bench.job import Place
from bench.lab import IDLE_SECONDS, Lab, Measured
from bench.loops import Outcome
from bench.proxy import Proxy, proxy_for

from .base import Case, Scenario, params

_RATE = 200
_SECONDS = 6.0
_SHORT_SECONDS = 3.0
#: The fault lasts from the first to the second, of the whole time.
_FROM, _TO = 1 / 3, 2 / 3

_SLOW = {"front +5 ms": 0.005, "front +50 ms": 0.05, "store +50 ms": 0.05}
_FRONT_FAULTS = ("front +5 ms", "front +50 ms", "front frozen", "front dead", "front cold")
_STORE_FAULTS = ("store +50 ms",)


def _cases(full: bool) -> list[Case]:
    front = ("tiered-langchain-redis-postgres", "langchain-AsyncRedisCache")
    store = ("tiered-langchain-redis-postgres", "langchain-SQLAlchemyCache-postgres")
    if not full:
        return [
            Case(
                front,
                params(callers=0, rate=_RATE, fault="front frozen"),
                mode="open",
                seconds=_SHORT_SECONDS,
                once=True,
            )
        ]
    cases = [(front, fault) for fault in _FRONT_FAULTS] + [(store, fault) for fault in _STORE_FAULTS]
    return [
        Case(who, params(callers=0, rate=_RATE, fault=fault), mode="open", seconds=_SECONDS) for who, fault in cases
    ]


@asynccontextmanager
async def _behind_a_proxy(place: Place, tier: str) -> AsyncGenerator[tuple[Place, Proxy]]:
    proxy = proxy_for(place.redis, 6379) if tier == "front" else proxy_for(place.postgres, 5432)
    await proxy.start()
    try:
        if tier == "front":
            yield replace(place, redis=proxy.instead_of(place.redis)), proxy
        else:
            yield replace(place, postgres=proxy.instead_of(place.postgres)), proxy
    finally:
        await proxy.kill()


async def _begin(fault: str, proxy: Proxy, place: Place) -> None:
    if fault in _SLOW:
        proxy.delay(_SLOW[fault])
    elif fault == "front frozen":
        proxy.freeze()
    elif fault == "front dead":
        await proxy.kill()
    else:
        await forget(place)


async def _end(fault: str, proxy: Proxy) -> None:
    if fault in _SLOW:
        proxy.delay(0.0)
    elif fault == "front frozen":
        proxy.thaw()
    elif fault == "front dead":
        await proxy.start()


async def _run(lab: Lab) -> Measured:
    fault = str(lab.job.params["fault"])
    place = lab.job.place
    async with _behind_a_proxy(place, fault.split()[0]) as (detour, proxy), lab.subject(detour) as subject:
        await lab.fill(subject)
        events: dict[str, float] = {}
        new = iter(range(lab.keys, 1 << 40))

        async def operate(number: int) -> Outcome:
            if number % 10 == 9:
                await subject.put([next(new)])
                return Outcome()
            found = await subject.get([number % lab.keys])
            return Outcome(found, 1 - found)

        async def disturb() -> None:
            await lab.clock.until(began + lab.job.seconds * _FROM)
            events[fault] = lab.clock.now() - began
            await _begin(fault, proxy, place)
            if fault != "front cold":
                await lab.clock.until(began + lab.job.seconds * _TO)
                await _end(fault, proxy)
                events[f"{fault.split()[0]} back"] = lab.clock.now() - began

        began = lab.clock.now() + IDLE_SECONDS
        disturbing = asyncio.create_task(disturb())
        measured = await lab.measure(operate, warm=False)
        await disturbing
        measured.events = {name: max(0.0, at + began - measured.trace.began) for name, at in events.items()}
        measured.timeline = True
        return measured


SCENARIO = Scenario("degraded", "a tier fails in mid-run and comes back", _cases, _run)
