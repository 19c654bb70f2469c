"""Which values `tune` tries: those that differ in anything, on these tiers and with this workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from tiered_cache import MissingExtraError, Options
from tiered_cache._zstd import check_installed

from .workload import Request

#: Tried one setting after the other, each with those already chosen.
_SWEEPS: Mapping[str, Sequence[int]] = {
    "batches_in_flight": (1, 2, 4, 8),
    "front_connections": (4, 8, 16, 32),
    "batch_items": (64, 128, 256, 512, 1024),
}
_BATCH_BYTES = (2**18, 2**20, 2**22, 2**24)
_THRESHOLDS = (256, 1024, 4096, 16_384, 65_536)


class Candidates(NamedTuple):
    """The values to try by setting, None among them for an option that is off; and why others are not tried."""

    tried: Mapping[str, Sequence[Any]]
    left_out: Mapping[str, str]


def candidates(requests: Sequence[Request], *, callers: int, pooled: bool) -> Candidates:
    """`pooled`: whether the front is reached by connections."""
    tried: dict[str, Sequence[Any]] = {
        setting: values for setting, values in _SWEEPS.items() if pooled or setting != "front_connections"
    }
    left_out: dict[str, str] = {}
    limits = batch_limits(requests, callers)
    if limits:
        tried["batch_bytes"] = limits
    else:
        left_out["batch_bytes"] = f"{callers} callers do not ask for {_BATCH_BYTES[0] // 1024} KiB at once"
    why = _why_uncompressed(requests)
    if why:
        left_out["compress_above"] = why
    else:
        tried["compress_above"] = [None, *thresholds(requests)]
    return Candidates(tried, left_out)


def default(setting: str) -> Any:
    (found,) = [field.default for field in fields(Options) if field.name == setting]
    return found


def batch_limits(requests: Sequence[Request], callers: int) -> list[int]:
    """Those that a batch of all callers can reach, and the default beside them; none where it reaches no limit."""
    most = callers * max(request.size for request in requests)
    reached = [limit for limit in _BATCH_BYTES if limit < most]
    return sorted({*reached, default("batch_bytes")}) if reached else []


def thresholds(requests: Sequence[Request]) -> list[int]:
    """Of those that compress the same values only the highest, and none that compresses nothing."""
    sizes = {request.size for request in requests}
    highest = {sum(size > threshold for size in sizes): threshold for threshold in _THRESHOLDS}
    return [threshold for compressed, threshold in highest.items() if compressed]


def _why_uncompressed(requests: Sequence[Request]) -> str:
    """Why compression cannot be tried, or ""."""
    try:
        check_installed()
    except MissingExtraError as error:
        return str(error)
    return "" if thresholds(requests) else f"no value has more than {_THRESHOLDS[0]} bytes"
