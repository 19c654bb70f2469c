"""A process that asks a model one question through a cache, and says what happens.

    python -m tests.langchain.asker FRONT STORE

Prints "waiting" once it waits for another process; "computing" when its model is asked, which then answers after a line
of input, or fails where that says "fail"; and in the end the answer, or "failed".
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from tests.langchain.flights import FOR_EVER, Chat
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache

say = partial(print, flush=True)


async def work(question: str, nth: int) -> None:
    say("computing")
    if (await asyncio.to_thread(sys.stdin.readline)).strip() == "fail":
        raise LookupError("no answer")


async def main(front: str, store: str) -> None:
    async with TieredCache(front, store, lease_ttl=2.0, front_timeout=5.0) as cache:
        llm = Chat(cache=LangChainCache(cache, single_flight=FOR_EVER), work=work)
        asking = asyncio.create_task(llm.ainvoke("q"))
        while not asking.done() and not cache.stats().waited:  # noqa: ASYNC110  (counters tell nobody)
            await asyncio.sleep(0.005)
        if cache.stats().waited:
            say("waiting")
        try:
            say((await asking).text)
        except LookupError:
            say("failed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
