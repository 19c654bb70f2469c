"""Time lines through a fault: operations, p99, errors and hit ratio against time, events as vertical marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from bench.groups import by_setting, counted, rates
from bench.record import Run, Sample
from bench.report._cards import Panel, card, grid, numbers, section
from bench.report._chart import BELOW, LEFT, RIGHT, Point, drawing, line, plane, series
from bench.report._elements import Element, add, element
from bench.report._looks import Look, Looks
from bench.report._scales import Scale, Tick, linear, logarithmic
from bench.units import NOTHING, digits, rate, seconds

_STRIP: Final = 96.0
_GAP: Final = 48.0
_ROW: Final = 24.0  # of labels of events
_DRAWN: Final = 5  # marks on a line
_LETTER: Final = 10.5  # width of one, where text is largest
_LEAD: Final = (
    "What callers see while a tier fails and comes back. The strong line is the round in the middle by operations "
    "done, the faint ones are the other rounds. Operations stand where they were due; a gap is a time of which nothing "
    "came back. The hit ratio is that of the keys of all operations, also of those that write."
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A slice, as rates."""

    at: float
    answers: float
    p99: float | None
    errors: float
    hit_ratio: float | None


def faults_section(run: Run, looks: Looks) -> Element | None:
    """Of the samples that hold events: time lines in which nothing happens are the other charts' business."""
    cards: list[Element] = []
    for setting, contenders in by_setting(run.samples).items():
        lines = {name: found for name, samples in contenders.items() if (found := _lines(samples))}
        if lines:
            rows = [(looks[name], samples, [_rate(samples)]) for name, samples in contenders.items()]
            title = f"{setting.scenario}, {setting.title}"
            body = [faults_chart(title, lines, _events(contenders), looks), numbers(["Rate"], rows)]
            cards.append(card(setting.scenario, [Panel(setting, body, weight=len(lines))]))
    return section("faults", "Through a fault", _LEAD, grid(cards)) if cards else None


def _rate(samples: list[Sample]) -> str:
    found = rates(counted(samples))
    return rate(found.median) if found else NOTHING


def _lines(samples: list[Sample]) -> list[list[Moment]]:
    """One for each round, that in the middle first."""
    rounds = sorted(
        (sample for sample in counted(samples) if len(sample.timeline) > 1 and sample.events),
        key=lambda sample: sample.operations,
    )
    if not rounds:
        return []
    middle = rounds.pop((len(rounds) - 1) // 2)
    return [_moments(sample) for sample in (middle, *rounds)]


def _moments(sample: Sample) -> list[Moment]:
    batch = sample.params.get("batch", 1.0)
    keys = batch if isinstance(batch, int | float) else 1.0
    starts = [part.at for part in sample.timeline]
    regular = median(after - before for before, after in pairwise(starts)) or 1.0
    moments: list[Moment] = []
    for part in sample.timeline:
        while moments and part.at - moments[-1].at > regular:  # a stretch in which nothing was due
            moments.append(Moment(moments[-1].at + regular, 0.0, None, 0.0, None))
        # The last slice may be short; a very short one would turn its few operations into a peak.
        width = min(max(sample.seconds - part.at, regular / 2), regular) if part.at == starts[-1] else regular
        moments.append(
            Moment(
                part.at + width / 2,
                (part.operations - part.errors) / width,
                part.p99 if part.operations > part.errors else None,
                part.errors / width,
                part.hits / (part.operations * keys) if part.operations else None,
            )
        )
    return moments


def _events(contenders: dict[str, list[Sample]]) -> dict[str, float]:
    """They happen at nearly the same moment in all samples."""
    moments: dict[str, list[float]] = {}
    for samples in contenders.values():
        for sample in counted(samples):
            for name, at in sample.events.items():
                moments.setdefault(name, []).append(at)
    return dict(sorted(((name, median(found)) for name, found in moments.items()), key=lambda event: event[1]))


def faults_chart(title: str, lines: dict[str, list[list[Moment]]], events: dict[str, float], looks: Looks) -> Element:
    """`lines` holds, for each contender, the moments of each of its rounds, that in the middle first."""
    moments = [moment for rounds in lines.values() for one in rounds for moment in one]
    latest = max(*(moment.at for moment in moments), *events.values())
    x = _time(latest)
    rows = _label_rows(events, x)
    top = _ROW * (max(rows.values(), default=0) + 1) + 34
    strips = _strips(moments, top)
    bottom = strips[-1].y.start
    svg = drawing(bottom + BELOW, f"Time line: {title}")
    for strip in strips:
        add(svg, plane(x, strip.y, strip.title, "seconds" if strip is strips[-1] else ""))
    marks = [_event(name, x(at), _ROW * (rows[name] + 1) - 6, bottom) for name, at in events.items()]
    add(svg, *(upright for upright, _ in marks), *(label for _, label in marks))
    for name, rounds in lines.items():
        look = looks[name]
        faint = [line(part) for one in rounds[1:] for strip in strips for part in _parts(one, x, strip)]
        strong = [line(part) for strip in strips for part in _parts(rounds[0], x, strip)]
        add(svg, series(look, *faint, faint=True))
        add(svg, series(look, *strong, *_spots(look, rounds[0], x, strips)))
    return svg


@dataclass(frozen=True, slots=True)
class _Strip:
    title: str
    y: Scale
    value: Callable[[Moment], float | None]


def _strips(moments: Sequence[Moment], top: float) -> list[_Strip]:
    def place(number: int) -> tuple[float, float]:
        high = top + number * (_STRIP + _GAP)
        return high + _STRIP, high

    slow = [moment.p99 for moment in moments if moment.p99 is not None]
    halves = [Tick(0.0, "0 %"), Tick(0.5, "50 %", minor=True), Tick(1.0, "100 %")]
    return [
        _Strip("answers a second", linear((m.answers for m in moments), *place(0), rate), lambda m: m.answers),
        _Strip("p99", logarithmic(slow, *place(1)), lambda m: m.p99),
        _Strip("errors a second", linear((m.errors for m in moments), *place(2), rate), lambda m: m.errors),
        _Strip(
            "hit ratio",
            Scale(0.0, 1.0, *place(3), log=False, ticks=halves),
            lambda m: m.hit_ratio,
        ),
    ]


def _time(latest: float) -> Scale:
    """Ends where the run ends, not at the next round number."""
    scale = linear([latest], LEFT, RIGHT, digits)
    ticks = [tick for tick in scale.ticks if tick.at <= latest]
    return Scale(0.0, latest or 1.0, LEFT, RIGHT, log=False, ticks=ticks)


def _parts(moments: Sequence[Moment], x: Scale, strip: _Strip) -> list[list[Point]]:
    """Stretches without a gap."""
    parts: list[list[Point]] = [[]]
    for moment in moments:
        value = strip.value(moment)
        if value is None:
            parts.append([])
        else:
            parts[-1].append(Point(x(moment.at), strip.y(value)))
    return parts


def _spots(look: Look, moments: Sequence[Moment], x: Scale, strips: Sequence[_Strip]) -> list[Element]:
    """Places that can be asked for their values. A few are drawn, elsewhere for each contender, to tell lines apart."""
    spots: list[Element] = []
    every = max(1, len(moments) // _DRAWN)
    for number, moment in enumerate(moments):
        classes = "mark" if (number - 2 * look.index) % every == 0 else "mark spot"
        slow = "nothing came back" if moment.p99 is None else f"p99 {seconds(moment.p99)}"
        hits = "" if moment.hit_ratio is None else f"\nhits {100 * moment.hit_ratio:.1f} %"
        tip = f"{look.name}\nat {digits(moment.at)} s: {rate(moment.answers)}, {slow}"
        tip += f"\nerrors {rate(moment.errors)}{hits}"
        for strip in strips:
            if (value := strip.value(moment)) is not None:
                across, down = x(moment.at), strip.y(value)
                spots.append(look.shape(across, down, class_=classes, data_tip=tip, data_x=across, data_y=down))
    return spots


def _label_rows(events: dict[str, float], x: Scale) -> dict[str, int]:
    """Labels that would touch stand below each other."""
    ends: list[float] = []
    rows: dict[str, int] = {}
    for name, at in events.items():
        start, length = x(at), len(name) * _LETTER
        if start + length > x.end:
            start -= length  # it will stand to the left of its mark
        row = next((i for i, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [max(x(at), start + length) + 8]
        rows[name] = row
    return rows


def _event(name: str, x: float, label_y: float, bottom: float) -> tuple[Element, Element]:
    """The mark, and the label to be drawn over all marks."""
    left = x + len(name) * _LETTER > RIGHT
    place = {"x": x - 6 if left else x + 6, "y": label_y, "text_anchor": "end" if left else "start"}
    return (
        element("line", x1=x, x2=x, y1=label_y - 12, y2=bottom, class_="event"),
        element("text", name, class_="event", **place),
    )
