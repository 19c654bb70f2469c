"""One door, nothing optional behind it, and nothing made at import time."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import tiered_cache

# Not opentelemetry itself: redis-py imports it where it is installed.
OPTIONAL = (
    "langchain_core",
    "langgraph",
    "rich",
    "tiered_cache.otel",
    "asyncpg",
    "fakeredis",
    "psycopg",
    "trio",
    "uvloop",
    "zstandard",
)

# What each extra brings, what fails without it, and the library that is missing then.
EXTRAS = [
    pytest.param("langchain", "langchain_core", "import tiered_cache.langchain", id="langchain"),
    pytest.param("langgraph", "langgraph", "import tiered_cache.langgraph", id="langgraph"),
    pytest.param("otel", "opentelemetry", "import tiered_cache.otel", id="otel"),
    pytest.param("cli", "rich", "from tiered_cache.cli import main; main(['demo'])", id="cli"),
    pytest.param(
        "postgres",
        "asyncpg",
        "from tiered_cache import TieredCache; TieredCache(store='postgresql+asyncpg://127.0.0.1:1/app').sync.get('k')",
        id="postgres",
    ),
    pytest.param(
        "zstd", "zstandard", "from tiered_cache import TieredCache; TieredCache(compress_above=20_000)", id="zstd"
    ),
]


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In an interpreter of its own, where a warning is an error, on the package that this process has imported."""
    command = [sys.executable, "-W", "error", "-c", dedent(program)]
    environment = {**os.environ, "PYTHONPATH": str(Path(tiered_cache.__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_public_name_comes_through_the_one_door() -> None:
    bound = {
        name for name, thing in vars(tiered_cache).items() if not name.startswith("_") and not inspect.ismodule(thing)
    }

    assert set(tiered_cache.__all__) == bound
    assert len(set(tiered_cache.__all__)) == len(tiered_cache.__all__)


def test_every_public_class_says_what_it_promises() -> None:
    things = [getattr(tiered_cache, name) for name in tiered_cache.__all__]

    assert [thing.__name__ for thing in things if inspect.isclass(thing) and not thing.__doc__] == []


def test_the_public_classes_are_all_of_this_package() -> None:
    things = [getattr(tiered_cache, name) for name in tiered_cache.__all__]

    assert {thing.__module__.partition(".")[0] for thing in things if inspect.isclass(thing)} == {"tiered_cache"}


def test_importing_the_package_imports_no_optional_library(tmp_path: Path) -> None:
    done = run(
        f"""
        import sys, tiered_cache
        print(sorted({set(OPTIONAL)!r} & set(sys.modules)))
    """,
        tmp_path,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("extra", "library", "use"), EXTRAS)
def test_a_missing_extra_is_an_import_error_that_names_it(extra: str, library: str, use: str, tmp_path: Path) -> None:
    done = run(
        f"""
        import sys
        sys.modules[{library!r}] = None  # what import then raises is what it raises when nothing is installed
        try:
            {use}
        except ImportError as error:
            print(error)
        except SystemExit as error:  # a command says it on one line and ends
            print(error.code)
    """,
        tmp_path,
    )

    assert f"tiered-cache[{extra}]" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_importing_makes_no_cache_no_thread_and_no_file(tmp_path: Path) -> None:
    done = run(
        """
        import gc, os, pkgutil, sys, threading
        import tiered_cache
        for module in pkgutil.walk_packages(tiered_cache.__path__, "tiered_cache."):
            if not module.name.endswith("__main__"):
                __import__(module.name)
        tiers = tuple(getattr(sys.modules[where], name) for where, name in [
            ("tiered_cache", "Namespace"), ("tiered_cache", "MemoryFront"),
            ("tiered_cache._redis", "RedisFront"), ("tiered_cache._sql", "SqlStore"),
        ])
        print([thing for thing in gc.get_objects() if isinstance(thing, tiers)])
        print(threading.active_count(), os.listdir())
    """,
        tmp_path,
    )

    assert (done.stdout, done.stderr) == ("[]\n1 []\n", "")
