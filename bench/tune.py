"""`python -m bench tune`: which settings suit these tiers and this workload, and what says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tiered_cache import Options

from .advice import Advice, deadline, fastest, lifetime, summary
from .plan import Step
from .record import Sample
from .refusal import Refusal
from .runner import take
from .scenarios import scenario
from .scenarios.base import Case
from .tiers import Tiers, open_tiers
from .workload import Request, made_up, recorded, retention

#: What is tried, one setting after the other, each with those already chosen.
_SWEEPS: Mapping[str, Sequence[int]] = {
    "batches_in_flight": (1, 2, 4, 8),
    "front_connections": (4, 8, 16, 32),
    "batch_items": (64, 128, 256, 512, 1024),
}
_DEADLINES = (0.02, 0.05, 0.1, 0.25, 0.5)
_LIFETIMES = (1, 5, 30, 60, 300, 900, 3600, 21_600, 86_400)
_REQUESTS = 200_000
_PLENTY = 5.0
_FRONT_TTL = {"redis": 3600.0, "memory": 5.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What `tune` was asked for."""

    front: str | None = None
    store: str | None = None
    #: A recorded workload; the next four make one up.
    recorded: Path | None = None
    zipf: float = 0.99
    keys: int = 10_000
    value_bytes: int = 2300
    rate: float = 500.0
    callers: int = 64
    seconds: float = 2.0
    rounds: int = 3


def tune(wish: Wish, console: Console | None = None) -> list[Advice]:
    """Prints the settings to use and the evidence, and returns them. Raises Refusal for what cannot be measured."""
    console = console or Console(highlight=False)
    requests = _requests(wish)
    found: list[Advice] = []
    with open_tiers(wish.front, wish.store) as tiers, TemporaryDirectory(prefix="bench-") as folder:
        workload = Path(folder) / "workload.json"
        workload.write_text(json.dumps(requests))
        measuring = _Measuring(wish, tiers, workload, console)
        for tier, name in tiers.names.items():
            console.print(f"{tier}: {name}")
        console.print(f"workload: {len(requests):,} reads of {len({r.key for r in requests}):,} keys")
        chosen: dict[str, Any] = {"front_timeout": _PLENTY}
        with measuring.progress:
            if measuring.front == "redis":
                found.append(_deadline(measuring, chosen))
            for setting, values in _SWEEPS.items():
                if setting == "front_connections" and measuring.front != "redis":
                    continue
                advice = _sweep(measuring, setting, values, chosen)
                found.append(advice)
                chosen[setting] = advice.value
        found.append(lifetime(_FRONT_TTL[measuring.front], list(retention(requests, _lifetimes(requests)))))
    _show(found, console)
    return found


def _requests(wish: Wish) -> list[Request]:
    if wish.recorded is not None:
        return recorded(wish.recorded, rate=wish.rate)
    return made_up(s=wish.zipf, keys=wish.keys, size=wish.value_bytes, rate=wish.rate, requests=_REQUESTS)


def _lifetimes(requests: Sequence[Request]) -> list[float]:
    """Those that the workload can tell apart: none longer than it lasts, but for one."""
    whole = requests[-1].at - requests[0].at
    shorter = [float(seconds) for seconds in _LIFETIMES if seconds < whole]
    return [*shorter, next((float(seconds) for seconds in _LIFETIMES if seconds >= whole), 86_400.0)]


class _Measuring:
    def __init__(self, wish: Wish, tiers: Tiers, workload: Path, console: Console) -> None:
        self.wish = wish
        self.front = "redis" if tiers.redis else "memory"
        self._tiers = tiers
        self._store = "postgres" if tiers.postgres else "sqlite"
        self._workload = workload
        total = 1 + sum(len(values) for values in _SWEEPS.values())
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self.progress.add_task("", total=total * wish.rounds)

    def rounds(self, candidates: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Sample]]:
        """Each candidate once a round, another first each time; with its number."""
        params = {"callers": self.wish.callers, "front": self.front, "store": self._store}
        case = Case((), {**params, "workload": str(self._workload)}, seconds=self.wish.seconds)
        for number in range(self.wish.rounds):
            for place in range(len(candidates)):
                which = (place + number) % len(candidates)
                self.progress.update(self._task, description=f"{candidates[which]}")
                step = Step(scenario("replay"), case, "tiered-plain-redis-postgres", number)
                yield which, take(step, self._tiers, candidates[which])
                self.progress.advance(self._task)


def _deadline(measuring: _Measuring, chosen: Mapping[str, Any]) -> Advice:
    samples = [sample for _, sample in measuring.rounds([chosen])]
    good = [sample for sample in samples if not sample.refused and sample.stages]
    if not good:
        raise Refusal(f"the workload could not be measured: {samples[0].refused}")
    return deadline(_default("front_timeout"), _DEADLINES, good)


def _sweep(measuring: _Measuring, setting: str, values: Sequence[int], chosen: Mapping[str, Any]) -> Advice:
    of_value: dict[int, list[Sample]] = {value: [] for value in values}
    for which, sample in measuring.rounds([{**chosen, setting: value} for value in values]):
        of_value[values[which]].append(sample)
    tried = {value: found for value, samples in of_value.items() if (found := summary(samples)) is not None}
    if not tried:
        raise Refusal(f"the workload could not be measured: {of_value[values[0]][0].refused}")
    return fastest(setting, _default(setting), tried)


def _default(setting: str) -> Any:
    (found,) = [field.default for field in fields(Options) if field.name == setting]
    return found


def _show(found: Sequence[Advice], console: Console) -> None:
    for advice in found:
        console.print(f"\n[bold]{advice.setting}[/bold] = {advice.value}   (default {advice.default}; {advice.reason})")
        for line in advice.evidence:
            console.print(f"    {line}")
    settings = ", ".join(f"{advice.setting}={advice.value}" for advice in found if advice.value != advice.default)
    console.print(f"\nTieredCache(front, store, {settings})" if settings else "\nThe defaults suit this workload.")
