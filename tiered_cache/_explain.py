"""Where a key would be found just now, and if nowhere, why: what `explain` returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ._cells import Value, codec_of, intact, is_mark, made_at, payload_of, read_value
from ._freshness import around
from ._inquiries import Inspected
from ._keys import Key, Path
from ._leases import is_lease
from ._view import View

#: "doubtful": this process could not tell the front of a change, and does not believe it until somebody has. "unknown":
#: it has not reached the store yet, whose identity is part of every key of the front. "unjudged": a value, of which
#: nobody can tell whether it was cleared.
FrontState = Literal[
    "value",
    "empty",
    "marked",
    "leased",
    "cleared",
    "unreadable",
    "doubtful",
    "unjudged",
    "unknown",
    "unreachable",
]
#: "in grace": expired, but `get_or_compute` with a `grace` may return it. "expired": not even that; not removed yet.
StoreState = Literal["value", "in grace", "expired", "absent", "cleared", "unreadable", "unreachable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a read of a key would come to, and what each tier holds for it. None is what cannot be told."""

    #: Which tier would answer; None: neither, it is a miss.
    found: Literal["front", "store"] | None
    #: One sentence.
    reason: str
    front: FrontState
    store: StoreState
    #: Of the value that is there, valid or not: its version, its size in bytes as it is stored, how long ago it was
    #: made (at most), and how long it is still valid: `inf` for ever, 0 or less once it has expired. In seconds.
    version: int | None = None
    size: int | None = None
    age: float | None = None
    ttl: float | None = None
    #: Whether the codec of this namespace wrote it.
    codec_matches: bool | None = None
    #: The namespace whose clear ended it.
    cleared_by: Path | None = None

    def __str__(self) -> str:
        details = [
            *([] if self.version is None else [f"version {self.version}"]),
            *([] if self.size is None else [f"{self.size} bytes"]),
            *([] if self.age is None else [f"{self.age:.1f} s old"]),
            *([] if self.ttl is None or self.ttl <= 0 or self.ttl == math.inf else [f"{self.ttl:.1f} s left"]),
        ]
        where = "a miss" if self.found is None else f"a hit in the {self.found}"
        return f"{where}: {self.reason}\nfront: {self.front}; store: {self.store}" + "".join(f", {d}" for d in details)


class _Entry(NamedTuple):
    """A value in one of the tiers. `left` is in milliseconds, b"" the envelope of one that is damaged."""

    version: int
    envelope: bytes
    left: float | None
    cleared_by: Path | None


async def explain(view: View, key: Key) -> Explanation:
    seen = await view.shared.engine.inquiries.inspect(key)
    front, in_front = _front(key, seen)
    store, in_store = _store(key, seen)
    entry = in_front if front == "value" else in_store or in_front
    if entry is not None and in_store is not None and entry.version == in_store.version:
        entry = entry._replace(left=in_store.left)
    fault = _fault(view, entry.envelope) if entry is not None and "value" in (front, store) else None
    found: Literal["front", "store"] | None = "front" if front == "value" else "store" if store == "value" else None
    reason = _reason(found, front, store, entry)
    if fault is not None:
        found, reason = None, fault
        front = "unreadable" if front == "value" else front
        store = "unreadable" if store == "value" else store
    envelope = b"" if entry is None else entry.envelope
    age = view.shared.engine.clock.age(made_at(envelope)) if envelope else None
    judge = view.shared.judge(around.get())
    if found is not None and judge is not None and not judge(envelope):
        found, reason = None, "there is a value, but it is not as fresh as what is said round this call wants it"
    return Explanation(
        found=found,
        reason=reason,
        front=front,
        store=store,
        version=None if entry is None else entry.version,
        size=len(envelope) or None,
        age=None if age is None else age / 1000,
        ttl=None if entry is None or entry.left is None else entry.left / 1000,
        codec_matches=None if not envelope else codec_of(envelope) == view.settings.codec.id,
        cleared_by=None if entry is None else entry.cleared_by,
    )


def _front(key: Key, seen: Inspected) -> tuple[FrontState, _Entry | None]:
    if seen.cells is None:
        return "unreachable" if seen.opened else "unknown", None
    if seen.doubtful:
        return "doubtful", None
    cell, *marks = seen.cells
    if not cell:
        return "empty", None
    if is_mark(cell):
        return "leased" if is_lease(cell) else "marked", None
    value = read_value(key.digest, cell)
    if value is None or not intact(key.digest, value.envelope):
        return "unreadable", None
    watermarks = dict(seen.remembered) if seen.found is None else _watermarks(key, seen.found.watermarks)
    for (address, digest), mark in zip(key.scope.watermarks.items(), marks, strict=True):
        held: Value | None = read_value(digest, mark) if mark else None
        if held is not None:
            watermarks[address] = held.version
    cleared_by = _cleared_by(key, watermarks, value.version)
    entry = _Entry(value.version, value.envelope, None, cleared_by)
    if cleared_by is not None:
        return "cleared", entry
    return ("value" if all(address in watermarks for address in key.scope.addresses) else "unjudged"), entry


def _store(key: Key, seen: Inspected) -> tuple[StoreState, _Entry | None]:
    if seen.found is None:
        return "unreachable", None
    usable = seen.found.rows.get(key.digest)
    row = seen.expired if usable is None else usable
    if row is None:
        return "absent", None
    left = math.inf if row.left is None else row.left
    if not intact(key.digest, row.envelope):
        return "unreadable", _Entry(row.version, b"", left, None)
    cleared_by = _cleared_by(key, _watermarks(key, seen.found.watermarks), row.version)
    entry = _Entry(row.version, row.envelope, left, cleared_by)
    if cleared_by is not None:
        return "cleared", entry
    if left > 0:
        return "value", entry
    return ("expired" if usable is None else "in grace"), entry


def _watermarks(key: Key, found: Mapping[bytes, int]) -> dict[bytes, int]:
    return {address: found.get(address, 0) for address in key.scope.addresses}


def _cleared_by(key: Key, watermarks: Mapping[bytes, int], version: int) -> Path | None:
    """The namespace that was cleared last, if that was after this version."""
    last = max(key.scope.addresses, key=lambda address: watermarks.get(address, 0))
    if watermarks.get(last, 0) < version:
        return None
    return key.scope.path[: key.scope.addresses.index(last)]


def _fault(view: View, envelope: bytes) -> str | None:
    """Why this view cannot read an intact envelope."""
    codec = view.settings.codec
    if codec_of(envelope) != codec.id:
        return f"codec {codec_of(envelope)} wrote the value, and this namespace reads what codec {codec.id} writes"
    payload = payload_of(envelope, codec.id)
    if payload is None:
        return "the value is compressed, and cannot be decompressed here (it takes the extra zstd)"
    try:
        codec.decode(payload)
    except Exception as error:  # noqa: BLE001  (a codec may raise anything)
        return f"the codec cannot read the value: {type(error).__name__}"
    return None


_FRONT: Final[Mapping[FrontState, str]] = {
    "empty": "the front has nothing for it",
    "marked": "in the front is the mark of somebody between the tiers",
    "leased": "in the front is the lease of somebody who computes it",
    "cleared": "what the front has was cleared",
    "unreadable": "what the front has is damaged",
    "doubtful": "the front could not be told of a change and is not believed until it was",
    "unreachable": "the front does not answer",
}


def _reason(found: str | None, front: FrontState, store: StoreState, entry: _Entry | None) -> str:
    if found == "front":
        return "the front has it"
    if found == "store":
        return f"the store has it; {_FRONT.get(front, 'the front cannot be asked')}"
    if store == "unreachable":
        known = "what the front has cannot be judged" if front == "unjudged" else _FRONT.get(front, "so does the front")
        return f"only the store could tell, and it does not answer; {known}"
    if store == "absent":
        return "there is no row: it was never set, or was deleted, or expired and was removed since"
    if store == "unreadable":
        return "the row in the store is damaged"
    assert entry is not None
    if store == "cleared":
        return f"the namespace {entry.cleared_by!r} was cleared after it was set"
    ago = f"it expired {-(entry.left or 0) / 1000:.1f} s ago"
    return f"{ago}; get_or_compute with a grace may still return it" if store == "in grace" else ago
