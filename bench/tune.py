"""`python -m bench tune`: which settings suit these tiers and this workload, and what says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .advice import Advice, Measured, compression, deadline, fastest, lifetime, summary, weight
from .candidates import candidates, default
from .plan import Step
from .record import Sample
from .refusal import Refusal
from .runner import take
from .scenarios import scenario
from .scenarios.base import Case
from .tiers import Tiers, open_tiers
from .workload import Request, made_up, recorded, retention

_DEADLINES = (0.02, 0.05, 0.1, 0.25, 0.5)
_LIFETIMES = (1, 5, 30, 60, 300, 900, 3600, 21_600, 86_400)
_REQUESTS = 200_000
_PLENTY = 5.0
_FRONT_TTL = {"redis": 3600.0, "memory": 5.0}
_MADE_UP = "the values were cut from Python's documentation: yours may compress better or worse"
_STAND_INS = f"the recording has sizes and no values; {_MADE_UP}"
_NO_NETWORK = "the front was on this machine: over a network, fewer bytes count for more"


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
        tried, left_out = candidates(requests, callers=wish.callers, pooled=bool(tiers.redis))
        measuring = _Measuring(wish, tiers, workload, console, bool(tiers.redis) + sum(map(len, tried.values())))
        for tier, name in tiers.names.items():
            console.print(f"{tier}: {name}")
        console.print(f"workload: {len(requests):,} reads of {len({r.key for r in requests}):,} keys")
        chosen: dict[str, Any] = {"front_timeout": _PLENTY}
        with measuring.progress:
            if measuring.front == "redis":
                found.append(_deadline(measuring, chosen))
            for setting, values in tried.items():
                advice = _advice(measuring, setting, values, chosen)
                found.append(advice)
                chosen[setting] = advice.value
        found.append(lifetime(_FRONT_TTL[measuring.front], list(retention(requests, _lifetimes(requests)))))
    _show(found, console)
    for setting, why in left_out.items():
        console.print(f"\n{setting} was not tried: {why}", markup=False)
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
    def __init__(self, wish: Wish, tiers: Tiers, workload: Path, console: Console, candidates: int) -> None:
        self.wish = wish
        self.front = "redis" if tiers.redis else "memory"
        self.own_front = tiers.own_redis
        self._tiers = tiers
        self._store = "postgres" if tiers.postgres else "sqlite"
        self._workload = workload
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self.progress.add_task("", total=candidates * wish.rounds)

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
    return deadline(default("front_timeout"), _DEADLINES, good)


def _sweep(
    measuring: _Measuring, setting: str, values: Sequence[Any], chosen: Mapping[str, Any]
) -> Mapping[Any, Sequence[Sample]]:
    of_value: dict[Any, list[Sample]] = {value: [] for value in values}
    for which, sample in measuring.rounds([{**chosen, setting: value} for value in values]):
        of_value[values[which]].append(sample)
    return of_value


def _tried(of_value: Mapping[Any, Sequence[Sample]]) -> Mapping[Any, Measured]:
    tried = {value: found for value, samples in of_value.items() if (found := summary(samples)) is not None}
    if not tried:
        samples = next(iter(of_value.values()))
        raise Refusal(f"the workload could not be measured: {samples[0].refused}")
    return tried


def _advice(measuring: _Measuring, setting: str, values: Sequence[Any], chosen: Mapping[str, Any]) -> Advice:
    of_value = _sweep(measuring, setting, values, chosen)
    tried = _tried(of_value)
    if setting == "compress_above":
        advice = _compression(measuring, tried, of_value)
    else:
        advice = fastest(setting, default(setting), tried)
    failed = [
        f"{value}: not measured: {samples[0].refused or 'nothing was answered'}"
        for value, samples in of_value.items()
        if value not in tried
    ]
    return advice._replace(evidence=[*advice.evidence, *failed])


def _compression(
    measuring: _Measuring, tried: Mapping[int | None, Measured], of_value: Mapping[int | None, Sequence[Sample]]
) -> Advice:
    weights = {value: found for value, samples in of_value.items() if (found := weight(samples)) is not None}
    advice = compression(tried, weights)
    notes = [_STAND_INS if measuring.wish.recorded else _MADE_UP]
    if measuring.own_front:
        notes.append(_NO_NETWORK)
    return advice._replace(evidence=[*advice.evidence, *notes])


def _show(found: Sequence[Advice], console: Console) -> None:
    for advice in found:
        console.print(f"\n[bold]{advice.setting}[/bold] = {advice.value}   (default {advice.default}; {advice.reason})")
        for line in advice.evidence:
            console.print(f"    {line}")
    settings = ", ".join(f"{advice.setting}={advice.value}" for advice in found if advice.value != advice.default)
    console.print(f"\nTieredCache(front, store, {settings})" if settings else "\nThe defaults suit this workload.")
