"""Who is measured. Each contender is a class in one of these modules, and a line in its CONTENDERS."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .base import Contender

#: The module of a contender, by the first part of its name: a process imports what it measures, and not the rest.
_MODULES = {
    "tiered": "tiered",
    "redis": "raw",
    "asyncpg": "raw",
    "langchain": "langchain_peers",
    "langgraph": "langgraph_peers",
    "cashews": "plain_peers",
    "aiocache": "plain_peers",
}


def contender(name: str) -> Contender:
    return next(each for each in _of_module(_MODULES[name.partition("-")[0]]) if each.name == name)


@cache
def contenders() -> dict[str, Contender]:
    return {each.name: each for module in dict.fromkeys(_MODULES.values()) for each in _of_module(module)}


def _of_module(module: str) -> list[Contender]:
    found: list[Contender] = import_module(f"{__name__}.{module}").CONTENDERS
    return found
