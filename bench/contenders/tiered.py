"""This cache: plain, and through both adapters; embedded, and on servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis.asyncio

from bench import payloads
from bench.forget import unlink
from tiered_cache import Front, MemoryFront, Options, Step, TieredCache
from tiered_cache._redis import RedisFront

from .base import Contender, LangChainSubject, LangGraphSubject, Setting, Subject, Tier

#: Puts another front in the place of the one that was asked for, or around it.
Wrap = Callable[[Front], Front]

_PARTS_PER_FILL = 5000
_NEAR_BYTES = 64 * 1024 * 1024


class EmptiableFront:
    """The in-process front, which a scenario may empty."""

    def __init__(self) -> None:
        self._inner = MemoryFront()

    def empty(self) -> None:
        self._inner = MemoryFront()

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return await self._inner.get(keys)

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        return await self._inner.apply(steps, token, mark_ttl)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Ours:
    """A TieredCache on the tiers of a place, and what scenarios do to its front."""

    def __init__(self, setting: Setting, front: str, store: str, wrap: Wrap | None = None) -> None:
        place = setting.place
        options: dict[str, Any] = {"prefix": place.name, **setting.options}
        source: str | Front = place.redis if front == "redis" else EmptiableFront()
        if front == "memory":
            options.setdefault("front_ttl", 5.0)  # what `memory://` has
        self.memory = source if isinstance(source, EmptiableFront) else None
        if wrap is not None:
            source = wrap(_redis_front(source, setting.options) if isinstance(source, str) else source)
        if store == "postgres":
            options["schema"] = place.name
        self._place = place
        self.cache = TieredCache(source, place.postgres if store == "postgres" else self._file(), **options)

    def _file(self) -> str:
        return f"sqlite:///{self._place.file('.db')}"

    async def empty_front(self) -> None:
        if self.memory is not None:
            self.memory.empty()
        else:
            await unlink(self._place.redis, self._place.name)


def _redis_front(url: str, given: Mapping[str, Any]) -> Front:
    """As TieredCache makes it of a URL: what is measured through a wrapper has the settings that were asked for."""
    options = Options.of(given)
    return RedisFront(url, max_connections=options.front_connections, timeout=options.front_timeout)


class TieredLangChain(LangChainSubject):
    def __init__(self, setting: Setting, front: str, store: str, wrap: Wrap | None = None) -> None:
        super().__init__(setting)
        from tiered_cache.langchain import LangChainCache  # a process imports what it measures, and not the rest

        self.ours = Ours(setting, front, store, wrap)
        self.cache = LangChainCache(self.ours.cache)

    async def open(self) -> None:
        await self.ours.cache.setup()

    async def aclose(self) -> None:
        await self.ours.cache.aclose()

    async def fill(self, keys: Sequence[int]) -> None:
        for start in range(0, len(keys), 256):
            await self.put(keys[start : start + 256])

    async def empty_front(self) -> None:
        await self.ours.empty_front()

    async def clear(self, part: int) -> None:
        await self.cache.aclear(llm_string=f"part{part}")

    async def fill_part(self, part: int, keys: Sequence[int]) -> None:
        # Rows as the adapter's: below its namespace, in one for each model's settings. Values are small, so that a
        # million of them fits anywhere; a clear does not read them.
        space = self.ours.cache.namespace("langchain", f"part{part}")
        for start in range(0, len(keys), _PARTS_PER_FILL):
            await space.set_many({payloads.key(key): b"" for key in keys[start : start + _PARTS_PER_FILL]})


class Near(TieredLangChain):
    """What it reads from Redis stays in the process as well."""

    def __init__(self, setting: Setting, front: str, store: str) -> None:
        super().__init__(replace(setting, options={"near_bytes": _NEAR_BYTES, **setting.options}), front, store)


class TieredLangGraph(LangGraphSubject):
    def __init__(self, setting: Setting, front: str, store: str) -> None:
        super().__init__(setting)
        from tiered_cache.langgraph import LangGraphCache

        self.ours = Ours(setting, front, store)
        self.cache = LangGraphCache(self.ours.cache)

    async def open(self) -> None:
        await self.ours.cache.setup()

    async def aclose(self) -> None:
        await self.ours.cache.aclose()

    async def empty_front(self) -> None:
        await self.ours.empty_front()


class TieredPlain(Subject):
    def __init__(self, setting: Setting, front: str, store: str, wrap: Wrap | None = None) -> None:
        super().__init__(setting)
        self.ours = Ours(setting, front, store, wrap)
        self.space = self.ours.cache.namespace("bench")

    async def open(self) -> None:
        await self.ours.cache.setup()

    async def aclose(self) -> None:
        await self.ours.cache.aclose()

    async def get(self, keys: Sequence[int]) -> int:
        if len(keys) == 1:
            return int(await self.space.get(payloads.key(keys[0])) is not None)
        return len(await self.space.get_many([payloads.key(key) for key in keys]))

    async def put(self, keys: Sequence[int]) -> None:
        size = self.setting.value_bytes
        await self.space.set_many({payloads.key(key): payloads.plain(key, size) for key in keys})

    async def check(self, key: int) -> bool:
        return bool(await self.space.get(payloads.key(key)) == payloads.plain(key, self.setting.value_bytes))

    async def empty_front(self) -> None:
        await self.ours.empty_front()

    async def clear(self, part: int) -> None:
        await self.ours.cache.namespace("bench", f"part{part}").clear()

    async def fill_part(self, part: int, keys: Sequence[int]) -> None:
        space = self.ours.cache.namespace("bench", f"part{part}")
        for start in range(0, len(keys), _PARTS_PER_FILL):
            await space.set_many({payloads.key(key): b"" for key in keys[start : start + _PARTS_PER_FILL]})

    async def get_or_compute(self, key: int, seconds: float, computed: list[int]) -> bytes:
        async def compute() -> bytes:
            computed.append(key)
            await asyncio.sleep(seconds)
            return payloads.plain(key, self.setting.value_bytes)

        value: bytes = await self.space.get_or_compute(payloads.key(key), compute)
        return value


class PlainSetFront(RedisFront):
    """A front without the rule: marks are skipped, and a settle is a SET. Wrong; it shows what the rule costs."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._client: Any = redis.asyncio.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        values = [step for step in steps if step.arg and step.ttl]
        if values:
            pipe = self._client.pipeline(transaction=False)
            for step in values:
                pipe.set(step.key, step.arg, px=step.ttl)
            await pipe.execute()
        return [True] * len(steps)

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.aclose()


class WithoutRule(TieredLangChain):
    def __init__(self, setting: Setting, front: str, store: str) -> None:
        self._plain_front = PlainSetFront(setting.place.redis)
        super().__init__(setting, front, store, self._instead)

    def _instead(self, _: Front) -> Front:
        return self._plain_front

    async def aclose(self) -> None:
        await super().aclose()
        await self._plain_front.aclose()


_PAIRS: tuple[tuple[str, Tier, Tier], ...] = (
    ("redis-postgres", "redis", "postgres"),
    ("redis-sqlite", "redis", "sqlite"),
    ("embedded", "memory", "sqlite"),
)


def _contenders() -> list[Contender]:
    found: list[Contender] = []
    for suffix, front, store in _PAIRS:
        tiers = frozenset((front, store))

        def make_langchain(setting: Setting, front: str = front, store: str = store) -> Subject:
            return TieredLangChain(setting, front, store)

        def make_langgraph(setting: Setting, front: str = front, store: str = store) -> Subject:
            return TieredLangGraph(setting, front, store)

        def make_plain(setting: Setting, front: str = front, store: str = store) -> Subject:
            return TieredPlain(setting, front, store)

        found += [
            Contender(f"tiered-langchain-{suffix}", "langchain", tiers, make_langchain, ours=True),
            Contender(f"tiered-langgraph-{suffix}", "langgraph", tiers, make_langgraph, ours=True),
            Contender(f"tiered-plain-{suffix}", "plain", tiers, make_plain, ours=True),
        ]
    both: frozenset[Tier] = frozenset(("redis", "postgres"))
    found += [
        Contender("tiered-langchain-near", "langchain", both, lambda s: Near(s, "redis", "postgres"), ours=True),
        Contender(
            "tiered-without-the-rule", "langchain", both, lambda s: WithoutRule(s, "redis", "postgres"), ours=True
        ),
    ]
    return found


CONTENDERS = _contenders()
