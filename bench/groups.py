"""Samples of the same thing in several rounds, taken together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.record import Sample
from bench.units import digits, size

_NAMED: Final[Mapping[str, Callable[[str], str]]] = {
    "callers": lambda value: f"{value} caller{'' if value == '1' else 's'}",
    "rate": lambda value: f"{value}/s",
    "batch": lambda value: f"batch of {value}",
    "keys": lambda value: f"{value} keys",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sample was asked to do, whoever did it."""

    scenario: str
    mode: str
    params: tuple[tuple[str, float | str], ...]

    @classmethod
    def of(cls, sample: Sample, *, without: str = "") -> Setting:
        params = ((name, sample.params[name]) for name in _in_order(sample.params) if name != without)
        return cls(sample.scenario, sample.mode, tuple(params))

    @property
    def words(self) -> list[str]:
        """The mode and the parameters."""
        return [f"{self.mode} loop", *params_in_words(dict(self.params))]

    @property
    def title(self) -> str:
        return " · ".join(self.words)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median over rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where no round gave a value."""
        return cls(median(values), min(values), max(values), len(values)) if values else None

    @property
    def width(self) -> float:
        return self.high - self.low


def params_in_words(params: Mapping[str, float | str]) -> list[str]:
    """An open loop has no callers, which is nothing to speak of."""
    return [_in_words(name, params[name]) for name in _in_order(params) if (name, params[name]) != ("callers", 0)]


def _in_order(names: Iterable[str]) -> list[str]:
    """Those that most scenarios have come first."""
    return sorted(names, key=lambda name: (list(_NAMED).index(name) if name in _NAMED else len(_NAMED), name))


def _in_words(name: str, value: float | str) -> str:
    if name.endswith("_bytes") and not isinstance(value, str):
        return f"{size(value)} {name.removesuffix('_bytes').replace('_', ' ')}"
    text = value if isinstance(value, str) else digits(value) if value >= 1000 else f"{value:g}"
    return _NAMED[name](text) if name in _NAMED else f"{name.replace('_', ' ')} {text}"


def counted(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if not sample.refused]


def by_setting(samples: Iterable[Sample], *, without: str = "") -> dict[Setting, dict[str, list[Sample]]]:
    """Samples by setting and, in it, by contender, each in the order of first appearance.

    `without` names a parameter that does not tell settings apart: the x axis of a chart.
    """
    groups: dict[Setting, dict[str, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(Setting.of(sample, without=without), {}).setdefault(sample.contender, []).append(sample)
    return groups


def rates(samples: Sequence[Sample]) -> Spread | None:
    return Spread.of([sample.achieved for sample in samples])


def percentiles(samples: Sequence[Sample], name: str) -> Spread | None:
    """Of the rounds that have a latency. `name` is that of a field of Latency, such as "p99"."""
    return Spread.of([getattr(sample.latency, name) for sample in samples if sample.latency])
