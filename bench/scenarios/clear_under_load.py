"""Readers go on while everything is cleared again and again; what they miss they write anew."""

from __future__ import annotations

import asyncio

from bench.lab import Lab, Measured
from bench.loops import Outcome

from .base import LANGCHAIN_SOME, Case, Scenario, params

_EVERY_SECONDS = 0.1


def _cases(full: bool) -> list[Case]:
    return [Case(LANGCHAIN_SOME, params(callers=64, clear_every=_EVERY_SECONDS), seconds=3.0)] if full else []


async def _run(lab: Lab) -> Measured:
    failed: list[BaseException] = []
    async with lab.subject() as subject:
        await lab.fill(subject)

        async def clear() -> None:
            while True:
                await asyncio.sleep(_EVERY_SECONDS)
                try:
                    await subject.clear_all()
                except Exception as error:  # noqa: BLE001  (whatever a contender raises is counted against it)
                    failed.append(error)

        async def ask(number: int) -> Outcome:
            key = number % lab.keys
            if await subject.get([key]):
                return Outcome(hits=1)
            await subject.put([key])
            return Outcome()

        clearing = asyncio.create_task(clear())
        try:
            measured = await lab.measure(ask)
        finally:
            clearing.cancel()
        measured.timeline = True
        measured.trace.errors.update(f"{type(error).__name__} in clear" for error in failed)
        return measured


SCENARIO = Scenario("clear-under-load", "reads and writes while everything is cleared", _cases, _run, clears=True)
