"""The command `python -m bench`: `run` (the default), `tune`, `report`, `compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .record import Run
from .refusal import Refusal

REFUSED = 2
INTERRUPTED = 130

_SHORT_ROUNDS = 3
_FULL_ROUNDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. What is wrong is said in one line on stderr, with exit code 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "run")
    arguments = _parser().parse_args(given)
    try:
        arguments.run(arguments)
    except Refusal as error:
        print(f"bench: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED
    except ImportError as error:
        print(f"bench: {error.name} is not installed: pip install -e '.[bench]'", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures this cache beside its peers.")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="measure (the default)", description="Measures this cache beside its peers.")
    _tiers(run)
    run.add_argument(
        "--profile",
        choices=("short", "full"),
        help="two minutes, or an hour (short; scenarios that are named: all of what a full run has of them)",
    )
    run.add_argument("--scenario", nargs="+", default=[], metavar="NAME", help="only these")
    run.add_argument("--contender", nargs="+", default=[], metavar="NAME", help="only those with this in their name")
    run.add_argument("--rounds", type=_positive, metavar="N", help=f"({_SHORT_ROUNDS} short, {_FULL_ROUNDS} full)")
    run.add_argument("--out", type=Path, metavar="FILE.json", help="keep the run, for `report` and `compare`")
    run.set_defaults(run=_run)

    tune = commands.add_parser(
        "tune",
        help="find the settings for your tiers and your workload",
        description="Measures settings one after the other on your tiers and your workload, and prints those to use.",
    )
    _tiers(tune)
    tune.add_argument(
        "--workload", type=Path, metavar="FILE.jsonl", help='lines {"key": "k", "bytes": 2300, "at": 0.1}'
    )
    tune.add_argument("--zipf", type=float, default=0.99, metavar="S", help="skew of a made-up workload (0.99)")
    tune.add_argument("--keys", type=_positive, default=10_000, metavar="N", help="keys of a made-up workload (10000)")
    tune.add_argument("--bytes", type=_positive, default=2300, metavar="N", help="size of its values (2300)")
    tune.add_argument("--rate", type=float, default=500.0, metavar="N", help="its reads a second (500)")
    tune.add_argument(
        "--callers", type=_positive, default=64, metavar="N", help="callers when looking for the peak (64)"
    )
    tune.add_argument("--seconds", type=float, default=2.0, metavar="N", help="for each measurement (2)")
    tune.add_argument("--rounds", type=_positive, default=3, metavar="N", help="(3)")
    tune.set_defaults(run=_tune)

    report = commands.add_parser("report", help="make an HTML page of a run")
    report.add_argument("record", type=Path, metavar="FILE.json")
    report.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.html")
    report.set_defaults(run=_report)

    compare = commands.add_parser("compare", help="show what differs between two runs")
    compare.add_argument("before", type=Path, metavar="A.json")
    compare.add_argument("after", type=Path, metavar="B.json")
    compare.set_defaults(run=_compare)
    return parser


def _tiers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--front", metavar="URL", help="a Redis of yours, or memory://; else one is started")
    parser.add_argument(
        "--store", metavar="URL", help="a PostgreSQL of yours, or sqlite:///file.db; else one is started"
    )


def _positive(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")


def _run(arguments: argparse.Namespace) -> None:
    out: Path | None = arguments.out
    if out is not None and not out.resolve().parent.is_dir():
        raise Refusal(f"there is no folder {out.resolve().parent}: make it, or name a file in one that exists")
    from .screen import run_on_screen

    full = (arguments.profile or ("full" if arguments.scenario else "short")) == "full"
    run_on_screen(
        full=full,
        rounds=arguments.rounds or (_FULL_ROUNDS if full else _SHORT_ROUNDS),
        front=arguments.front,
        store=arguments.store,
        only_scenarios=arguments.scenario,
        only_contenders=arguments.contender,
        out=out,
    )


def _tune(arguments: argparse.Namespace) -> None:
    from .tune import Wish, tune

    tune(
        Wish(
            front=arguments.front,
            store=arguments.store,
            recorded=arguments.workload,
            zipf=arguments.zipf,
            keys=arguments.keys,
            value_bytes=arguments.bytes,
            rate=arguments.rate,
            callers=arguments.callers,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
        )
    )


def _report(arguments: argparse.Namespace) -> None:
    run = _load(arguments.record)
    from .report import write_report

    write_report(run, arguments.out)
    print(arguments.out)


def _compare(arguments: argparse.Namespace) -> None:
    before, after = _load(arguments.before), _load(arguments.after)
    from rich.console import Console

    from .compare import compare

    compare(before, after, Console())


def _load(path: Path) -> Run:
    try:
        return Run.load(path)
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}: `python -m bench --out {path}` makes one") from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} is no record of a run: `python -m bench --out FILE.json` makes one ({error})") from None
