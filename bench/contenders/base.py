"""What every contender can do for a scenario, whatever interface of its own it is called by."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from langchain_core.outputs import ChatGeneration

from bench import payloads
from bench.job import Place

Kind = Literal["langchain", "langgraph", "plain"]
Tier = Literal["redis", "postgres", "sqlite", "memory"]

_FILL_BATCH = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """What a subject is made for."""

    place: Place
    #: Of one value, about.
    value_bytes: int
    #: Of TieredCache; peers ignore them.
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Subject(ABC):
    """One cache under test. Keys are numbers; what is stored under them is made of the number (`payloads`)."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    async def open(self) -> None:
        """Connects, and makes tables."""

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    async def get(self, keys: Sequence[int]) -> int:
        """Asks for all of them in one call, or in the calls that the framework would make; how many were found."""

    @abstractmethod
    async def put(self, keys: Sequence[int]) -> None: ...

    @abstractmethod
    async def check(self, key: int) -> bool:
        """Whether what comes out equals what went in."""

    async def fill(self, keys: Sequence[int]) -> None:
        """Puts many that were never put, not measured."""
        for start in range(0, len(keys), _FILL_BATCH):
            await self.put(keys[start : start + _FILL_BATCH])

    async def clear(self, part: int) -> None:
        """Clears what is in one part; contenders that know no parts clear everything."""
        raise NotImplementedError

    async def clear_all(self) -> None:
        """Clears everything that this contender keeps for its interface."""
        raise NotImplementedError

    async def fill_part(self, part: int, keys: Sequence[int]) -> None:
        raise NotImplementedError

    async def empty_front(self) -> None:  # noqa: B027  (not abstract: contenders of one tier have no front)
        """Makes the front forget all cells."""


class LangChainSubject(Subject):
    """Called as LangChain calls a model's cache from async code."""

    cache: Any

    async def get(self, keys: Sequence[int]) -> int:
        if len(keys) == 1:
            found = await self.cache.alookup(payloads.prompt(keys[0]), payloads.LLM_STRING)
            return int(isinstance(found, list))
        # abatch of a chat model looks each prompt up for itself, all at once.
        found = await asyncio.gather(*(self.cache.alookup(payloads.prompt(k), payloads.LLM_STRING) for k in keys))
        return sum(isinstance(each, list) for each in found)

    async def put(self, keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        updates = [
            self.cache.aupdate(payloads.prompt(key), payloads.LLM_STRING, payloads.answer(key, size)) for key in keys
        ]
        if len(updates) == 1:
            await updates[0]
        else:
            await asyncio.gather(*updates)

    async def check(self, key: int) -> bool:
        found = await self.cache.alookup(payloads.prompt(key), payloads.LLM_STRING)
        expected = _stored(payloads.answer(key, self.setting.value_bytes))
        return isinstance(found, list) and _stored(cast("list[Any]", found)) == expected

    async def clear(self, part: int) -> None:
        await self.clear_all()

    async def clear_all(self) -> None:
        await self.cache.aclear()

    async def fill_part(self, part: int, keys: Sequence[int]) -> None:
        await self.fill(keys)


def _stored(answer: list[Any]) -> list[Any]:
    """Without what a hit may be given on its way out: an id of its own, and a mark that it is one."""
    found = deepcopy(answer)
    for each in found:
        if isinstance(each, ChatGeneration):
            each.message.id = None
            each.message.response_metadata.pop("tiered_cache", None)
    return found


class LangGraphSubject(Subject):
    """Called as LangGraph calls its cache from async code."""

    cache: Any
    namespace = ("bench", "node")

    async def get(self, keys: Sequence[int]) -> int:
        return len(await self.cache.aget([(self.namespace, payloads.key(key)) for key in keys]))

    async def put(self, keys: Sequence[int]) -> None:
        await self._put(self.namespace, keys)

    async def _put(self, namespace: tuple[str, ...], keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        await self.cache.aset({(namespace, payloads.key(key)): (payloads.result(key, size), None) for key in keys})

    async def check(self, key: int) -> bool:
        full_key = (self.namespace, payloads.key(key))
        found = await self.cache.aget([full_key])
        # LangGraph's own caches make lists of tuples, which LangGraph itself does not mind.
        return [*map(tuple, found.get(full_key, ()))] == [*payloads.result(key, self.setting.value_bytes)]

    async def clear(self, part: int) -> None:
        await self.cache.aclear([("bench", f"part{part}")])

    async def fill_part(self, part: int, keys: Sequence[int]) -> None:
        for start in range(0, len(keys), 1000):
            await self._put(("bench", f"part{part}"), keys[start : start + 1000])


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    kind: Kind
    tiers: frozenset[Tier]
    make: Callable[[Setting], Subject]
    ours: bool = False
    #: Whether its clear empties the whole Redis database, so that it may not run on a Redis that others use.
    flushes: bool = False
