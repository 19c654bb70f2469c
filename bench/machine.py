"""Where a run was made, and with which versions: figures of two machines are not compared."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = (
    *("tiered-cache", "anyio", "redis", "hiredis", "sqlalchemy", "asyncpg", "psycopg", "aiosqlite"),
    *("langchain-core", "langchain-community", "langgraph", "langgraph-checkpoint", "langgraph-checkpoint-sqlite"),
    *("cashews", "aiocache", "orjson", "ormsgpack", "hdrhistogram"),
)


def machine() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
