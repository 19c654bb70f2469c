"""Two runs side by side: what became faster, what slower, and what is within the spread of the rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.groups import Spread, by_setting, counted, percentiles, rates
from bench.record import Figure, Run, Sample
from bench.units import NOTHING, digits, rate, seconds, with_unit

Verdict = Literal["faster", "slower", "within the spread", "no spread", "only in A", "only in B"]
_WIDTHS: Final[Mapping[str, int]] = {"contender": 30, "measure": 9, "A": 12, "B": 12, "B/A": 5, "verdict": 17}
_STYLES: Final[Mapping[str, str]] = {"faster": "green", "slower": "red", "within the spread": "dim"}


@dataclass(frozen=True, slots=True)
class Change:
    """One measure of one contender in one setting, in both runs."""

    measure: str
    a: Spread | None
    b: Spread | None
    more_is_better: bool

    @property
    def ratio(self) -> float | None:
        """B over A."""
        return self.b.median / self.a.median if self.a and self.b and self.a.median else None

    @property
    def verdict(self) -> Verdict:
        """A difference counts where it is larger than the wider of the two spreads; one round has no spread."""
        if self.a is None:
            return "only in B"
        if self.b is None:
            return "only in A"
        if min(self.a.rounds, self.b.rounds) < 2:
            return "no spread"
        difference = self.b.median - self.a.median
        if abs(difference) <= max(self.a.width, self.b.width):
            return "within the spread"
        return "faster" if (difference > 0) == self.more_is_better else "slower"


def compare(a: Run, b: Run, console: Console) -> None:
    """Prints what differs between the machines, then the samples by scenario, then the figures. Ratios are B over A."""
    _print_differences(a, b, console)
    verdicts: Counter[Verdict] = Counter()
    before, after = by_setting(a.samples), by_setting(b.samples)
    for setting in dict.fromkeys([*before, *after]):
        table = _table(f"{setting.scenario} · {setting.title}", "contender", "measure", "A", "B", "B/A", "verdict")
        verdicts += _add_contenders(table, before.get(setting, {}), after.get(setting, {}))
        console.print(table)
        console.print()
    if a.figures or b.figures:
        console.print(_figures(a.figures, b.figures))
    console.print(Text(_summary(verdicts), style="bold"))


def _table(title: str, *headings: str) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", pad_edge=False, box=None)
    for heading in headings:
        right = heading in {"A", "B", "B/A", "goal"}
        table.add_column(heading, justify="right" if right else "left", min_width=_WIDTHS.get(heading))
    return table


# --- the runs themselves ----------------------------------------------------------------------------------------------


def _print_differences(a: Run, b: Run, console: Console) -> None:
    for name, run in (("A", a), ("B", b)):
        said = f"{name}: {run.started}, profile {run.profile}, rounds: {run.rounds}, samples: {len(run.samples)}"
        console.print(Text(said), soft_wrap=True)
    warned: list[tuple[str, Mapping[str, str], Mapping[str, str]]] = [
        ("The machines differ: ratios between the runs are not those of the code alone.", a.machine, b.machine),
        ("The tiers differ: ratios between the runs are not those of the code alone.", a.tiers, b.tiers),
        ("The versions differ.", a.versions, b.versions),
        ("The profiles differ.", _profile(a), _profile(b)),
    ]
    for warning, old, new in warned:
        if changed := [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]:
            console.print(Text(warning, style="bold red"), soft_wrap=True)
            for name in changed:
                line = f"  {name}: {old.get(name, 'not in A')} -> {new.get(name, 'not in B')}"
                console.print(Text(line), soft_wrap=True)
    console.print()


def _profile(run: Run) -> dict[str, str]:
    return {"profile": run.profile, "rounds": str(run.rounds)}


# --- samples ----------------------------------------------------------------------------------------------------------


def _add_contenders(table: Table, before: dict[str, list[Sample]], after: dict[str, list[Sample]]) -> Counter[Verdict]:
    verdicts: Counter[Verdict] = Counter()
    for contender in dict.fromkeys([*before, *after]):
        a, b = before.get(contender, []), after.get(contender, [])
        label = Text(contender)
        for change in changes(a, b):
            verdicts[change.verdict] += 1
            table.add_row(label, *_cells(change))
            label = Text()
        if note := _other_offer(a, b):
            table.add_row(Text(f"  {note}", style="bold red"))
        for cells in _troubles(a, b):
            table.add_row(label, *cells)
            label = Text()
        for side, samples in (("A", a), ("B", b)):
            for reason in dict.fromkeys(sample.refused for sample in samples if sample.refused):
                table.add_row(Text(f"  refused in {side}: {reason}", style="yellow"))
    return verdicts


def changes(a: list[Sample], b: list[Sample]) -> list[Change]:
    """Of the samples that count. Empty where none does."""
    good_a, good_b = counted(a), counted(b)
    found = [
        Change("rate", rates(good_a), rates(good_b), more_is_better=True),
        *(Change(p, percentiles(good_a, p), percentiles(good_b, p), more_is_better=False) for p in ("p50", "p99")),
    ]
    return [change for change in found if change.a or change.b]


def _other_offer(a: list[Sample], b: list[Sample]) -> str:
    old, new = ({sample.offered for sample in counted(samples) if sample.offered is not None} for samples in (a, b))
    if old == new or not old or not new:
        return ""
    shown = (", ".join(map(rate, sorted(offers))) for offers in (old, new))
    return "other loads were offered: {} -> {}".format(*shown)


def _cells(change: Change) -> list[Text]:
    show = rate if change.measure == "rate" else seconds
    values = [Text(show(spread.median) if spread else NOTHING) for spread in (change.a, change.b)]
    ratio = Text(NOTHING if change.ratio is None else f"{change.ratio:.2f}")
    return [Text(change.measure), *values, ratio, Text(change.verdict, style=_STYLES.get(change.verdict, "yellow"))]


def _troubles(a: list[Sample], b: list[Sample]) -> Iterable[list[Text]]:
    """Lost hits, errors and refused samples of all rounds: no median may hide them."""
    counts: list[tuple[str, Callable[[Sample], int]]] = [
        ("lost hits", lambda sample: sample.lost),
        ("errors", lambda sample: sum(sample.errors.values())),
        ("refused", lambda sample: bool(sample.refused)),
    ]
    for name, count in counts:
        old, new = sum(map(count, a)), sum(map(count, b))
        if old or new:
            shown = [Text(f"{digits(total)} of {_whole(name, side)}") for total, side in ((old, a), (new, b))]
            yield [Text(name), *shown, Text(), _more_or_fewer(old, new) if a and b else Text()]


def _whole(name: str, samples: list[Sample]) -> str:
    whole = len(samples) if name == "refused" else sum(sample.operations for sample in samples)
    return digits(whole)


def _more_or_fewer(old: int, new: int) -> Text:
    if not old or not new:
        return Text("new", style="bold red") if new else Text("gone", style="green")
    return Text("more" if new > old else "fewer" if new < old else "as many", style="yellow")


def _summary(verdicts: Counter[Verdict]) -> str:
    if not verdicts:
        return "No samples to compare."
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())


# --- figures ----------------------------------------------------------------------------------------------------------


def _figures(a: Iterable[Figure], b: Iterable[Figure]) -> Table:
    before, after = ({figure.name: figure for figure in figures} for figures in (a, b))
    table = _table("Figures", "figure", "goal", "A", "B", "B/A", "verdict")
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        one = new or old
        assert one is not None
        goal = f"{'at least' if one.above else 'at most'} {with_unit(one.goal, one.unit)}"
        ratio = f"{new.value / old.value:.2f}" if old and new and old.value else NOTHING
        table.add_row(Text(name), Text(goal), _value(old), _value(new), Text(ratio), _figure_verdict(old, new))
    return table


def _value(figure: Figure | None) -> Text:
    if figure is None:
        return Text(NOTHING)
    mark = "✓" if figure.reached else "✗"
    return Text(f"{with_unit(figure.value, figure.unit)} {mark}", style="green" if figure.reached else "red")


def _figure_verdict(old: Figure | None, new: Figure | None) -> Text:
    if old is None or new is None:
        return Text("only in A" if new is None else "only in B", style="yellow")
    difference = new.value - old.value
    if abs(difference) <= max(old.high - old.low, new.high - new.low):
        return Text("within the spread", style="dim")
    better = (difference > 0) == new.above
    return Text("better" if better else "worse", style="green" if better else "red")
