"""A run on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .groups import Setting, by_setting, counted, params_in_words, percentiles, rates
from .record import Figure, Run, Sample
from .units import digits, seconds, with_unit

# That of the longest of their names, so that the tables stand in line.
_CONTENDER_WIDTH = 37


def show(run: Run, console: Console) -> None:
    """Each scenario by its settings and contenders, medians over the rounds; then the figures, reached or not."""
    for setting, contenders in by_setting(run.samples).items():
        console.print(_setting(setting, contenders))
    if run.figures:
        console.print(_figures(run.figures))
    for sample in run.samples:
        if sample.refused:
            what = ", ".join((sample.scenario, *params_in_words(sample.params), sample.contender))
            console.print(
                f"refused, round {sample.round + 1}: {what}: {sample.refused}", style="yellow", highlight=False
            )
    console.print(f"{run.started}, {run.seconds:.0f} s, {run.rounds} rounds; {', '.join(run.machine.values())}")
    for tier, name in run.tiers.items():
        console.print(f"{tier}: {name}", highlight=False)


def _setting(setting: Setting, contenders: dict[str, list[Sample]]) -> Table:
    title = f"\n{setting.scenario} · {setting.title}"
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    table.add_column("contender", no_wrap=True, min_width=_CONTENDER_WIDTH)
    for heading in ("ops/s", "low..high", "p50", "p90", "p99", "p99.9", "max", "held", "lost", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for contender, samples in contenders.items():
        table.add_row(*_row(contender, samples))
    return table


def _row(contender: str, samples: Sequence[Sample]) -> Sequence[str | Text]:
    good = counted(samples)
    rate = rates(good)
    if rate is None:
        return [contender, Text("refused", style="yellow")]
    refused = len(samples) - len(good)
    latency = [percentiles(good, name) for name in ("p50", "p90", "p99", "p999", "max")]
    lost = sum(sample.lost for sample in good)
    errors = sum(sum(sample.errors.values()) for sample in good)
    return [
        contender + (f" ({refused} refused)" if refused else ""),
        digits(rate.median),
        f"{digits(rate.low)}..{digits(rate.high)}" if rate.rounds > 1 else "",
        *(seconds(spread.median) if spread else "" for spread in latency),
        seconds(max(sample.loop_held for sample in good)),
        Text(f"{lost:,}", style="bold red" if lost else ""),
        Text(f"{errors:,}", style="bold red" if errors else ""),
    ]


def _figures(figures: Sequence[Figure]) -> Table:
    table = Table(title="\nfigures", title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    table.add_column("figure")
    for heading in ("value", "rounds", "goal", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.name + (f" ({figure.note})" if figure.note else ""),
            with_unit(figure.value, figure.unit),
            f"{digits(figure.low)}..{digits(figure.high)}",
            f"{'at least' if figure.above else 'at most'} {figure.goal:g}",
            Text("reached", style="green") if figure.reached else Text("not reached", style="bold red"),
        )
    return table
