"""python -m tests.faults: every fault for longer than in the suite, and a table of what was seen."""

from __future__ import annotations

import argparse
import asyncio

from tests.faults.place import Servers, open_place
from tests.faults.run import Report, complaints, deadline, p, run
from tests.faults.table import BY_NAME, FAULTS, Fault

_COLUMNS = (
    *(
        "fault",
        "lasted s",
        "engine raised",
        "adapters went without",
        "read p50/p99/max (due) ms",
        "write p50/p99/max (due) ms",
    ),
    *("recovered s", "wrong", "stale (allowed; last after end)", "counted", "logged", "left"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--fault", action="append", choices=sorted(BY_NAME), help="one of them; may be repeated")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each lasts")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faults = [BY_NAME[name] for name in given.fault] if given.fault else list(FAULTS)
    print("| " + " | ".join(_COLUMNS) + " |")
    print("| " + " | ".join("---" for _ in _COLUMNS) + " |")
    with Servers() as servers:
        for fault in faults:
            report = asyncio.run(_one(servers, fault, given.seconds, given.seed))
            print("| " + " | ".join(_row(report)) + " |", flush=True)
            for complaint in complaints(report)[:10]:
                print(f"    {complaint}", flush=True)


async def _one(servers: Servers, fault: Fault, seconds: float, seed: int) -> Report:
    async with open_place(servers, fault.kind) as place:
        return await run(fault, place, seconds=seconds, seed=seed)


def _row(report: Report) -> list[str]:
    engine = report.outcomes("the engine")
    adapters = report.outcomes("LangChainCache") + report.outcomes("LangGraphCache")
    return [
        report.fault.name,
        f"{report.lasted:.1f}",
        _share(engine, "raised"),
        _share(adapters, "without"),
        *(f"{_times(report.times(verb))} ({deadline(report, verb) * 1000:.0f})" for verb in ("read", "write")),
        "never" if report.recovered is None else f"{report.recovered:.1f}",
        str(len(report.wrong) + len(report.exceptions) + len(report.audit)),
        f"{len(report.stale)} ({len(report.allowed)}; {report.last_allowed:.1f})",
        _counts(report),
        ", ".join(f"{n} {what}" for what, n in sorted(report.logged.items())),
        str(report.left),
    ]


def _share(outcomes: dict[str, int], outcome: str) -> str:
    def of(verb: str) -> str:
        total = sum(n for what, n in outcomes.items() if what.startswith(verb))
        return f"{outcomes.get(f'{verb}: {outcome}', 0)}/{total} {verb}s"

    return ", ".join(map(of, ("read", "write")))


def _times(times: list[float]) -> str:
    return "/".join(f"{seconds * 1000:.0f}" for seconds in (p(0.5, times), p(0.99, times), max(times, default=0.0)))


def _counts(report: Report) -> str:
    wanted = (
        "hits_front",
        "hits_store",
        "misses",
        "front_errors",
        "front_spared",
        "unmarked",
        "delivered",
        "store_errors",
        "adapter_errors",
    )
    return ", ".join(f"{name} {report.counted[name]}" for name in wanted if report.counted[name])


if __name__ == "__main__":
    main()
