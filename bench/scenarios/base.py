"""What a scenario is: a name, the cases it is measured in, and a coroutine that measures one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.job import Mode
from bench.lab import Lab, Measured

#: Who is compared in a short run, and in the cases of a full one.
LANGCHAIN = ("tiered-langchain-redis-postgres", "langchain-AsyncRedisCache")
LANGCHAIN_SQL = ("tiered-langchain-redis-postgres", "langchain-SQLAlchemyCache-postgres")
LANGCHAIN_ALL = (
    *("tiered-langchain-redis-postgres", "tiered-langchain-redis-sqlite", "tiered-langchain-embedded"),
    *("langchain-AsyncRedisCache", "langchain-RedisCache", "langchain-SQLAlchemyCache-postgres"),
    *("langchain-SQLAlchemyCache-sqlite", "langchain-SQLAlchemyMd5Cache-postgres"),
)
LANGCHAIN_SOME = (
    *("tiered-langchain-redis-postgres", "tiered-langchain-embedded"),
    *("langchain-AsyncRedisCache", "langchain-SQLAlchemyCache-postgres"),
)
LANGGRAPH = ("tiered-langgraph-redis-postgres", "langgraph-RedisCache")
LANGGRAPH_EMBEDDED = ("tiered-langgraph-embedded", "langgraph-SqliteCache")
LANGGRAPH_ALL = (
    *("tiered-langgraph-redis-postgres", "tiered-langgraph-redis-sqlite", "tiered-langgraph-embedded"),
    *("langgraph-RedisCache", "langgraph-SqliteCache", "langgraph-InMemoryCache"),
)
PLAIN_ALL = (
    *("tiered-plain-redis-postgres", "tiered-plain-redis-sqlite", "tiered-plain-embedded"),
    *("redis-py", "asyncpg", "cashews", "aiocache"),
)

SHORT_SECONDS = 0.5
FULL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One setting, for contenders that are measured next to each other. Times are in seconds."""

    contenders: Sequence[str]
    params: Mapping[str, float | str]
    mode: Mode = "closed"
    seconds: float = FULL_SECONDS
    #: Taken in the first round only: for what is looked at, and in no figure.
    once: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    about: str
    #: The cases of a full run, or of a short one.
    cases: Callable[[bool], list[Case]]
    run: Callable[[Lab], Awaitable[Measured]]
    #: Whether it clears, which some contenders do to the whole Redis database.
    clears: bool = False


def seconds(full: bool) -> float:
    return FULL_SECONDS if full else SHORT_SECONDS


def params(
    *, callers: int = 1, batch: int = 1, value_bytes: int = 2300, keys: int = 512, **more: float | str
) -> Mapping[str, float | str]:
    return {"callers": callers, "batch": batch, "value_bytes": value_bytes, "keys": keys, **more}
