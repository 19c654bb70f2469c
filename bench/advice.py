"""From measurements to settings: pure, so that the rules by which `tune` judges can be read and tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from .record import Sample
from .workload import Retention

#: A setting is left at its default unless another is better by more than this: rounds differ by as much.
_WORTHWHILE = 1.05
#: The deadline of the front, as a multiple of the slowest of a thousand exchanges; and its least, in seconds.
_DEADLINE_FACTOR = 3.0
_LEAST_DEADLINE = 0.05
#: The share of the hits of the longest lifetime that a shorter one has to bring.
_ENOUGH_HITS = 0.99
_ONE_ROUND = "one round does not tell what is better from what is chance"
_WHY_DEADLINE = f"{_DEADLINE_FACTOR:g} times the p99.9; a silent front costs a read that long"


class Measured(NamedTuple):
    """What a setting brought: medians over the rounds, with the spread of the rate."""

    rate: float
    low: float
    high: float
    p99: float
    #: How many rounds counted.
    rounds: int


class Weight(NamedTuple):
    """What cells weigh, in bytes: those that a read moves to and from the front, on average; and those of all keys."""

    read: float
    held: float


class Advice(NamedTuple):
    """One setting: what to use, what it is by default, and the evidence, a line for each value that was tried."""

    setting: str
    value: Any
    default: Any
    evidence: Sequence[str]
    reason: str


def summary(samples: Sequence[Sample]) -> Measured | None:
    """None where no round counts."""
    good = [sample for sample in samples if not sample.refused and sample.latency]
    if not good:
        return None
    rates = [sample.achieved for sample in good]
    p99 = median(sample.latency.p99 for sample in good if sample.latency)
    return Measured(median(rates), min(rates), max(rates), p99, len(good))


def weight(samples: Sequence[Sample]) -> Weight | None:
    """Medians; None where no round tells."""
    good = [sample.sizes for sample in samples if not sample.refused and sample.sizes]
    if not good:
        return None
    return Weight(median(each["a read"] for each in good), median(each["all keys"] for each in good))


def fastest(setting: str, default: Any, tried: Mapping[Any, Measured]) -> Advice:
    """The value with the highest rate, if it beats the default by more than the rounds differ."""
    best = max(tried, key=lambda value: tried[value].rate)
    usual = tried.get(default)
    reason = "the highest rate"
    if best == default:
        reason = "the default is the fastest"
    elif usual and not _beyond_chance(tried[best], usual):
        several = min(tried[best].rounds, usual.rounds) > 1
        best, reason = default, "no other is faster by more than the rounds differ" if several else _ONE_ROUND
    evidence = [
        f"{value}: {each.rate:,.0f}/s ({each.low:,.0f}..{each.high:,.0f}), p99 {each.p99 * 1e3:.1f} ms"
        for value, each in tried.items()
    ]
    return Advice(setting, best, default, evidence, reason)


def _beyond_chance(better: Measured, other: Measured) -> bool:
    """Whether each round of the one was faster than every round of the other, of which there are several."""
    several = min(better.rounds, other.rounds) > 1
    return several and better.low > other.high and better.rate >= other.rate * _WORTHWHILE


def compression(tried: Mapping[int | None, Measured], weights: Mapping[int | None, Weight]) -> Advice:
    """`compress_above`: by the rate, as any other. The evidence says what it saves, to those who are short of space."""
    advice = fastest("compress_above", None, tried)
    evidence = [
        f"{line}; {_weighed(weights[value])}" if value in weights else line
        for value, line in zip(tried, advice.evidence, strict=True)
    ]
    compressing = [value for value in tried if value is not None and value in weights]
    if compressing and None in tried and None in weights:
        smallest = min(compressing, key=lambda value: weights[value].held)
        saved = 1 - weights[smallest].held / weights[None].held
        evidence.append(f"{smallest} saves {saved:.0%} of the space{_price(tried[smallest], tried[None])}")
    return advice._replace(evidence=evidence)


def _weighed(each: Weight) -> str:
    return f"{each.read:,.0f} bytes to and from the front for a read, {each.held / 2**20:.1f} MiB for all keys"


def _price(compressing: Measured, plain: Measured) -> str:
    change = compressing.rate / plain.rate - 1
    if _beyond_chance(plain, compressing):
        return f" and costs {-change:.0%} of the rate: worth it only where memory is short"
    if _beyond_chance(compressing, plain):
        return f" and brings {change:.0%} more reads a second"
    return f"; what that does to the rate ({change:+.0%}) cannot be told from chance"


def deadline(default: float, tried: Sequence[float], samples: Sequence[Sample]) -> Advice:
    """`front_timeout`, from how long exchanges with the front took under a deadline that hardly any can miss."""
    slow = median(sample.stages["front p99.9"] for sample in samples)
    usual = median(sample.stages["front p50"] for sample in samples)
    longest = max(sample.stages["front max"] for sample in samples)
    wanted = _nice(max(_LEAST_DEADLINE, slow * _DEADLINE_FACTOR))
    evidence = [
        f"an exchange: p50 {usual * 1e3:.1f} ms, p99.9 {slow * 1e3:.1f} ms, at most {longest * 1e3:.1f} ms",
        *(f"{value} s is {value / slow:.1f} times the p99.9" for value in tried),
    ]
    return Advice(
        "front_timeout",
        wanted,
        default,
        evidence,
        _WHY_DEADLINE,
    )


def lifetime(default: float, found: Sequence[Retention]) -> Advice:
    """`front_ttl`: the shortest lifetime that brings nearly all hits that any would."""
    most = max(each.hits for each in found)
    wanted = min((each for each in found if each.hits >= most * _ENOUGH_HITS), key=lambda each: each.seconds)
    evidence = [
        f"{each.seconds:g} s: {each.hits:.1%} of reads from the front, {each.held / 2**20:.1f} MiB of values held in it"
        for each in found
    ]
    return Advice(
        "front_ttl", wanted.seconds, default, evidence, "the shortest with nearly all hits; calculated from the moments"
    )


def _nice(seconds: float) -> float:
    """Rounded up to one digit."""
    digit = 10 ** math.floor(math.log10(seconds))
    return round(math.ceil(round(seconds / digit, 6)) * digit, 6)
