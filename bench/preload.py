"""What the process has imported from which those of the samples are forked: everything that any of them needs."""

from __future__ import annotations

import warnings
from contextlib import suppress
from importlib import import_module

from .contenders import contenders
from .scenarios import scenarios

_PEERS = (
    *("langchain_community.cache", "langgraph.cache.sqlite", "langgraph.cache.redis", "langgraph.cache.memory"),
    *("cashews", "aiocache", "aiocache.serializers", "asyncpg", "aiosqlite", "psycopg"),
    *("tiered_cache.langchain", "tiered_cache.langgraph"),
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    contenders()
    scenarios()
    for module in _PEERS:
        with suppress(ImportError):  # the sample that needs it says so
            import_module(module)
