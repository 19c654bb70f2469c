"""Damaged cells and rows, as many as one likes: each is a counted miss, never an exception and never a wrong value.

    python -m tests.fuzz --cases 1000000
    python -m tests.fuzz --seed 4711          one round again

A round is a few dozen cases: entries of one codec in both tiers, some of them cleared, of which cells (of entries and
of watermarks), rows, or both are then cut, lengthened, spliced, swapped, overwritten, or have a bit flipped. Where the
rows are whole, everything must be read as it was stored, and nothing that was cleared; else that, or nothing.

What cannot be told from the real thing is no damage: a cell that looks like somebody's mark says "ask the store", what
follows a whole watermark is not looked at, and the version of a row is whatever the store says it is. Random bits fit a
check once in four thousand million times.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, cast

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation

from tests.doubles import DictStore
from tiered_cache import MISSING, MemoryFront, RawCodec, Step, TieredCache
from tiered_cache._cells import is_mark, value_cell
from tiered_cache._rule import MARK_WRITE, SETTLE_WRITE
from tiered_cache.langchain import LangChainCache
from tiered_cache.langgraph import LangGraphCache

Kind = Literal["plain", "raw", "langchain", "langgraph"]
KINDS: Final[tuple[Kind, ...]] = ("plain", "raw", "langchain", "langgraph")

ENTRIES: Final = 24
_MARK_TTL: Final = 60_000
_LLM: Final = "a model"
_WATERMARK_BYTES: Final = len(value_cell(bytes(32), 0, b""))


class FuzzError(AssertionError):
    """Something came out that never went in, or was not counted."""


class Entries:
    """Entries of one kind: how they get in, and how they come out; MISSING where they do not."""

    def __init__(self, kind: Kind, cache: TieredCache) -> None:
        self._kind = kind
        self._cache = cache

    async def put(self, values: Sequence[Any], first: int = 0) -> None:
        names = [f"name {n}" for n in range(first, first + len(values))]
        match self._kind:
            case "langchain":
                adapter = LangChainCache(self._cache, fresh_ids=False, mark_hits=False)
                for name, value in zip(names, values, strict=True):
                    await adapter.aupdate(name, _LLM, value)
            case "langgraph":
                results: LangGraphCache[Any] = LangGraphCache(self._cache)
                await results.aset({(("n",), name): (value, None) for name, value in zip(names, values, strict=True)})
            case _:
                await self._space.set_many(dict(zip(names, values, strict=True)))

    async def clear(self) -> None:
        match self._kind:
            case "langchain":
                await LangChainCache(self._cache, fresh_ids=False, mark_hits=False).aclear()
            case "langgraph":
                await LangGraphCache(self._cache).aclear([("n",)])
            case _:
                await self._space.clear()

    async def take(self, count: int) -> list[Any]:
        names = [f"name {n}" for n in range(count)]
        match self._kind:
            case "langchain":
                adapter = LangChainCache(self._cache, fresh_ids=False, mark_hits=False)
                found = await asyncio.gather(*(adapter.alookup(name, _LLM) for name in names))
                return [MISSING if each is None else each for each in found]
            case "langgraph":
                results: LangGraphCache[Any] = LangGraphCache(self._cache)
                values = await results.aget([(("n",), name) for name in names])
                return [values.get((("n",), name), MISSING) for name in names]
            case _:
                kept = await self._space.get_many(names)
                return [kept.get(name, MISSING) for name in names]

    @property
    def _space(self) -> Any:
        return self._cache.namespace("a", "b", codec=RawCodec() if self._kind == "raw" else None)


def some_value(kind: Kind, dice: random.Random) -> Any:
    text = "".join(dice.choices("abc \n\x00\u00e4\U0001f600{}[]\"'", k=dice.choice([0, 3, 40, 900])))
    match kind:
        case "raw":
            return dice.randbytes(dice.choice([0, 1, 100, 3000]))
        case "langchain":
            return dice.choice(
                [
                    lambda: [ChatGeneration(message=AIMessage(text, id="run-1"))],
                    lambda: [ChatGeneration(message=AIMessage(text, additional_kwargs={"x": [text, 1.5, None]}))],
                    lambda: [Generation(text=text, generation_info={"n": 1}), Generation(text="")],
                ]
            )()
        case "langgraph":
            return dice.choice(
                [lambda: (text, 1), lambda: {"messages": [HumanMessage(text), AIMessage(text)]}, lambda: None]
            )()
        case _:
            return dice.choice([lambda: text, lambda: {"a": [text, 1.5, None, True]}, lambda: None, lambda: 2**70])()


def damaged(content: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    place = dice.randrange(len(content) + 1)
    match dice.randrange(8):
        case 0:
            return content[:place]
        case 1:
            return content + dice.randbytes(dice.choice([1, 16, 500]))
        case 2:
            return content[:place] + dice.choice(others)[place:]
        case 3:
            return dice.choice(others)
        case 4:
            return dice.randbytes(dice.choice([0, 1, 9, 13, 17, 18, 200]))
        case 5:
            return content[:1] + dice.randbytes(max(0, len(content) - 1))
        case 6:
            return dice.choice([b"R", b"W0", b"W1", b"V", b"D"]) + dice.randbytes(dice.choice([15, 16, 17, 32]))
        case _:
            at = place % max(1, len(content))
            return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :] if content else b"x"


async def damage_front(front: MemoryFront, dice: random.Random) -> tuple[int, bool]:
    """How many cells cannot be read any more for certain, and whether some look like marks now."""
    cells = {key: cell.content for key, cell in front._cells.items()}
    contents = list(cells.values())
    unreadable, marks = 0, False
    for key, content in cells.items():
        if dice.random() < 0.7:
            after = damaged(content, contents, dice)
            if after == content:
                continue
            marks |= is_mark(after)
            whole_watermark = len(content) == _WATERMARK_BYTES and after.startswith(content)
            unreadable += bool(after) and not is_mark(after) and not whole_watermark
            if not after:
                front._drop(key)
                continue
            for step in (Step(MARK_WRITE, key), Step(SETTLE_WRITE, key, after, 600_000)):
                await front.apply([step], b"fuzz" + bytes(12), _MARK_TTL)
    return unreadable, marks


def damage_rows(store: DictStore, dice: random.Random) -> None:
    envelopes = [row.entry.envelope for row in store.rows.values()]
    for digest, row in store.rows.items():
        if dice.random() < 0.7:
            envelope = damaged(row.entry.envelope, envelopes, dice)
            version = dice.choice([row.version, row.version, 0, 1, row.version + 1000, 2**63 - 1])
            store.rows[digest] = row._replace(version=version, entry=row.entry._replace(envelope=envelope))


async def play(seed: int) -> int:
    """One round; how many cases it was. Raises FuzzError."""
    dice = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    front, store = MemoryFront(), DictStore()
    writer = Entries(kind, _cache(front, store))
    values = [some_value(kind, dice) for _ in range(ENTRIES)]
    await writer.put([some_value(kind, dice) for _ in range(ENTRIES + 4)])
    await writer.clear()  # the last four are gone for good
    await writer.put(values)
    await writer.take(ENTRIES + 4)
    rows = dice.random() < 0.4
    unreadable, marks = await damage_front(front, dice) if not rows or dice.random() < 0.8 else (0, False)
    if rows:
        damage_rows(store, dice)
    cache = _cache(front, store)
    reader = Entries(kind, cache)
    # A row whose version was raised is one written after the clear, to anybody who asks.
    expected = values if rows else [*values, *[MISSING] * 4]
    found = await reader.take(len(expected))
    judge(found, expected, whole=not rows)
    if cache.stats().corrupt < unreadable and not rows:
        raise FuzzError(f"{unreadable} cells could not be read, and {cache.stats().corrupt} were counted")
    again = await reader.take(len(expected))
    judge(again, expected, whole=not rows)
    if not rows and not marks:
        before = cache.stats().hits_front
        judge(await reader.take(len(expected)), expected, whole=True)
        if cache.stats().hits_front != before + ENTRIES:
            raise FuzzError(f"{cache.stats().hits_front - before} of {ENTRIES} cells were repaired")
    return ENTRIES


def _cache(front: MemoryFront, store: DictStore) -> TieredCache:
    cache = TieredCache(front, store, front_timeout=30)
    cache.view.shared.engine.on_change = lambda _: None  # what was cleared is not to go away meanwhile
    return cache


def judge(found: Sequence[Any], expected: Sequence[Any], *, whole: bool) -> None:
    for n, (value, right) in enumerate(zip(found, expected, strict=True)):
        if value is MISSING and not (whole and right is not MISSING):
            continue
        if type(value) is not type(right) or value != right:
            raise FuzzError(f"entry {n} is {value!r} and was {right!r}")


async def replay(seed: int) -> int:
    try:
        return await play(seed)
    except Exception as error:
        error.add_note(f"seed {seed}: python -m tests.fuzz --seed {seed}")
        raise


async def fuzz(cases: int, first: int = 0, said: Callable[[int], Awaitable[None]] | None = None) -> int:
    done, seed = 0, first
    while done < cases:
        done += await replay(seed)
        seed += 1
        if said is not None and seed % 2000 == 0:
            await said(done)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=cast("str", __doc__).splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this round")
    given = parser.parse_args()
    logging.disable()
    if given.seed is not None:
        asyncio.run(replay(given.seed))
        return
    began = time.monotonic()
    done = asyncio.run(fuzz(given.cases, given.first))
    rate = done / (time.monotonic() - began)
    sys.stdout.write(f"{done} cases from seed {given.first}, {rate:.0f} a second, nothing wrong\n")


if __name__ == "__main__":
    main()
