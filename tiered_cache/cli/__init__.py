"""The command line: `tiered-cache demo`, `tiered-cache ddl`, `tiered-cache --version`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tiered_cache._cache import TieredCache
from tiered_cache._errors import TieredCacheError
from tiered_cache._options import options_from_env

from ._refusal import Refusal

REFUSED = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. What is wrong is said in one line on stderr, with exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (Refusal, TieredCacheError) as error:
        print(f"tiered-cache: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("tiered-cache: stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tiered-cache", description="A two-tier cache for services that call language models."
    )
    parser.add_argument("--version", action="version", version=f"tiered-cache {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser(
        "demo",
        help="see a chat model and a graph answered from the cache",
        description="Asks a stand-in chat model and a LangGraph graph a file of questions, with a cache in front: "
        "cold, warm, from another process, after losing the front, after clearing a namespace. Needs no key, no "
        "network and no server. With --front and --store it runs on yours, in a namespace of its own that is removed "
        "afterwards.",
    )
    demo.add_argument("--front", default="memory://", metavar="URL", help="such as redis://localhost:6379/0")
    demo.add_argument(
        "--store",
        metavar="URL",
        help="such as postgresql+asyncpg://user:password@localhost/database; a temporary SQLite file where not given",
    )
    demo.add_argument("--prompts", type=Path, metavar="FILE", help="your own questions, one a line")
    demo.add_argument(
        "--speed", type=_speed, default=1.0, metavar="FACTOR", help="how many times faster the model answers (1)"
    )
    demo.set_defaults(run=_run_demo)

    ddl = commands.add_parser("ddl", help="print the statements that create the tables")
    store = os.environ.get("TIERED_CACHE_STORE")
    ddl.add_argument(
        "--store",
        default=store,
        required=not store,
        metavar="URL",
        help="decides the dialect; nothing is connected to (TIERED_CACHE_STORE)",
    )
    ddl.add_argument("--table-prefix", metavar="TEXT", help="begins every name (TIERED_CACHE_TABLE_PREFIX)")
    ddl.add_argument("--schema", metavar="NAME", help="the schema that holds the tables (TIERED_CACHE_SCHEMA)")
    ddl.set_defaults(run=_run_ddl)
    return parser


def _version() -> str:
    try:
        return version("tiered-cache")
    except PackageNotFoundError:
        return "(not installed)"


def _speed(text: str) -> float:
    with suppress(ValueError):
        if 0 < (factor := float(text)) < float("inf"):
            return factor
    raise argparse.ArgumentTypeError(f"the speed is a number above 0, not {text!r}")


def _run_demo(arguments: argparse.Namespace) -> None:
    try:
        from ._demo import run
    except ImportError as error:
        raise Refusal("the demo needs libraries that are not installed: pip install 'tiered-cache[cli]'") from error
    run(front=arguments.front, store=arguments.store, prompts=arguments.prompts, speed=arguments.speed)


def _run_ddl(arguments: argparse.Namespace) -> None:
    options = options_from_env(os.environ)
    if arguments.table_prefix is not None:
        options["table_prefix"] = arguments.table_prefix
    if arguments.schema is not None:
        options["schema"] = arguments.schema
    print(TieredCache("memory://", arguments.store, **options).ddl())
