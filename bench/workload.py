"""What a service asks of its cache: keys, sizes and moments. Made up, or recorded by the service itself.

A recording is a file of JSON lines, one read each: {"key": "anything", "bytes": 2300, "at": 0.012}. `at` is in seconds
from the beginning; `bytes` and `at` may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from .payloads import STANDARD_BYTES
from .refusal import Refusal
from .zipf import zipf

_CHURN = 0.001


class Request(NamedTuple):
    """One read. Keys are numbered in the order in which they first appear; `at` is in seconds."""

    key: int
    size: int
    at: float


def made_up(*, s: float, keys: int, size: int, rate: float, requests: int) -> list[Request]:
    """Zipf-distributed keys at a steady rate."""
    drawn = islice(zipf(s, keys, churn=_CHURN), requests)
    return [Request(key, size, number / rate) for number, key in enumerate(drawn)]


def recorded(path: Path, *, rate: float) -> list[Request]:
    """In the order of their moments; where these are missing, at a steady rate. Raises Refusal for other files."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise Refusal(f"the workload {path} cannot be read: {error.strerror}") from None
    numbers: dict[str, int] = {}
    requests: list[Request] = []
    for place, line in enumerate(lines):
        if line.strip():
            key, size, at = _parsed(path, place + 1, line)
            number = numbers.setdefault(key, len(numbers))
            requests.append(Request(number, size, len(requests) / rate if at is None else at))
    if len(requests) < 2:
        raise Refusal(f'{path} holds no workload: it takes a line {{"key": "k", "bytes": 9, "at": 0.1}} for each read')
    return sorted(requests, key=lambda request: request.at)


def _parsed(path: Path, place: int, line: str) -> tuple[str, int, float | None]:
    try:
        found: Any = json.loads(line)
        given = cast("dict[str, Any]", found)
        at = given.get("at")
        return str(given["key"]), int(given.get("bytes", STANDARD_BYTES)), None if at is None else float(at)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refusal(
            f'{path}, line {place}: a read is {{"key": "k", "bytes": 2300, "at": 0.1}}, not {line[:60]}'
        ) from None


class Retention(NamedTuple):
    """What a cell's lifetime brings and costs."""

    seconds: float
    #: The share of reads that find a cell that an earlier read or write left.
    hits: float
    #: Bytes of values in the front, on average over the workload.
    held: float


def retention(requests: Sequence[Request], lifetimes: Sequence[float]) -> Iterator[Retention]:
    """For each lifetime (seconds), by the moments of the requests: a cell lives that long from when it was put.

    Calculated, not measured: no run lasts as long as a lifetime.
    """
    whole = max(requests[-1].at - requests[0].at, 1e-9)
    for seconds in lifetimes:
        put: dict[int, float] = {}
        hits = 0
        byte_seconds = 0.0
        for key, size, at in requests:
            if key in put and at - put[key] < seconds:
                hits += 1
            else:
                put[key] = at
                byte_seconds += size * min(seconds, requests[-1].at - at)
        yield Retention(seconds, hits / len(requests), byte_seconds / whole)
