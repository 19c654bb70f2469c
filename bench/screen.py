"""A run as a person watches it: progress bars, then the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .plan import Step, plan
from .record import Sample
from .runner import run
from .table import show
from .tiers import open_tiers

_WIDTH_OF_FILES = 160
_LINES_IN_FILES = 20


def run_on_screen(
    *,
    full: bool,
    rounds: int,
    front: str | None,
    store: str | None,
    only_scenarios: Sequence[str],
    only_contenders: Sequence[str],
    out: Path | None,
) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_FILES)
    with open_tiers(front, store) as tiers:
        steps = plan(
            full=full,
            rounds=rounds,
            tiers=tiers.there,
            only_scenarios=only_scenarios,
            only_contenders=only_contenders,
        )
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as progress:
            whole = progress.add_task("", total=len(steps))

            def tell(step: Step, sample: Sample | None) -> None:
                if sample is None:
                    about = f"round {step.round + 1}/{rounds}  {step.scenario.name}  {step.contender}"
                    progress.update(whole, description=about)
                else:
                    progress.advance(whole)
                    taken = int(progress.tasks[whole].completed)
                    if not console.is_terminal and taken * _LINES_IN_FILES % len(steps) < _LINES_IN_FILES:
                        console.print(f"{taken} of {len(steps)} samples taken", highlight=False)
                    if sample.refused:
                        progress.console.print(f"refused: {step.scenario.name} {step.contender}: {sample.refused}")

            profile = ": ".join(["full" if full else "short", *([", ".join(only_scenarios)] if only_scenarios else [])])
            record = run(steps, tiers, profile=profile, rounds=rounds, tell=tell)
    show(record, console)
    if out is not None:
        record.save(out)
        console.print(f"kept in {out}; `python -m bench report {out} -o report.html` draws it", highlight=False)
