"""One look at a batch of keys, without any input or output: what to ask of whom, and what the answers mean.

A cell or a row counts only if its version is above the watermark of its namespace and of every namespace above. A
watermark that the front does not have is unknown, never zero, and is read from the store.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ._cells import HEAD_BYTES, Value, intact, is_mark, read_value, value_cell
from ._keys import Key, Scope, front_key
from ._options import Options, milliseconds
from ._rule import MARK_READ, SETTLE_READ, Step
from ._tiers import Found, Row


class Answer(NamedTuple):
    """What a look found for a key: an intact envelope, and which tier had it."""

    envelope: bytes
    from_front: bool


class Lifetimes:
    """How long cells stay in the front, in milliseconds."""

    def __init__(self, options: Options) -> None:
        self._longest = options.front_ttl or math.inf
        self._jitter = options.front_ttl_jitter
        self.watermark = milliseconds(options.watermark_ttl)

    def of_cell(self, left: int | None) -> int:
        """At most `front_ttl`, at most what is left of the entry; spread, so that no crowd of cells expires at once."""
        ttl = milliseconds(self._longest * (1 - self._jitter * random.random()))  # noqa: S311  (no secret)
        return ttl if left is None else min(ttl, left)


class Look:
    """Collects what is known about the keys: `see` the cells; while `open`: leave the `marks`, `learn` from the store;
    at last take the `settles`.
    """

    def __init__(self, keys: Iterable[Key], prefix: bytes, lifetimes: Lifetimes) -> None:
        self._keys = {key.digest: key for key in keys}
        self._scopes = {key.scope.address: key.scope for key in self._keys.values()}
        self._watermark_of = {
            a: w for s in self._scopes.values() for a, w in zip(s.addresses, s.watermarks, strict=True)
        }
        self._prefix = prefix
        self._lifetimes = lifetimes
        self.answers: dict[bytes, Answer] = {}
        self.corrupt = 0
        #: The steps that settle what was marked; the front keys of entries (not watermarks) that they are to put.
        self.settles: list[Step] = []
        self.promoting: set[bytes] = set()
        #: Versions of the last clears, by address, as far as known.
        self.watermarks: dict[bytes, int] = {}
        # Addresses whose watermark, and keys whose entry, the store must tell; with the head of the invalid cell that a
        # reader's mark may replace, b"" where there is no cell, None where nothing may be marked.
        self._unknown: dict[bytes, bytes | None] = {}
        self._absent: dict[bytes, bytes | None] = {}
        # Values whose watermarks are still unknown.
        self._waiting: dict[bytes, Value] = {}

    @property
    def front_keys(self) -> list[bytes]:
        """What to ask of the front, in one go: the cells of all keys, then all watermarks."""
        return [front_key(self._prefix, digest) for digest in (*self._keys, *self._watermark_of.values())]

    def see(self, cells: Sequence[bytes | None] | None) -> None:
        """Takes the front's answer to `front_keys`; None where it did not answer."""
        if cells is None:
            self._unknown = dict.fromkeys(self._watermark_of)
            self._absent = dict.fromkeys(self._keys)
            return
        for (address, digest), cell in zip(self._watermark_of.items(), cells[len(self._keys) :], strict=True):
            value = read_value(digest, cell) if cell else None
            if value is not None:
                self.watermarks[address] = value.version
            else:
                self._unknown[address] = self._markable(cell)
        for digest, cell in zip(self._keys, cells, strict=False):
            value = read_value(digest, cell) if cell else None
            if value is not None and intact(digest, value.envelope):
                self._judge(digest, value)
            else:
                self._absent[digest] = self._markable(cell)

    @property
    def open(self) -> bool:
        return bool(self._absent or self._waiting)

    def trust(self, remembered: dict[bytes, int]) -> None:
        """Judges the waiting values by watermarks seen earlier: all there is while the store does not answer."""
        for address in self._unknown.keys() & remembered.keys():
            self.watermarks[address] = remembered[address]
        self._judge_waiting()

    def marks(self) -> list[Step]:
        """The reader's marks to leave before the store is asked."""
        wanted = (*self._absent.items(), *((self._watermark_of[a], head) for a, head in self._unknown.items()))
        return [Step(MARK_READ, self._front(digest), head) for digest, head in wanted if head is not None]

    @property
    def questions(self) -> tuple[list[bytes], list[bytes]]:
        """The digests and the addresses to ask of the store. Watermarks are asked anew, known or not."""
        scopes: list[Scope] = [self._keys[digest].scope for digest in (*self._absent, *self._waiting)]
        return list(self._absent), list(dict.fromkeys(address for scope in scopes for address in scope.addresses))

    def learn(self, found: Found, marked: set[bytes]) -> None:
        """Takes the store's answer to `questions`, and settles those cells (front keys) that were `marked`."""
        asked, addresses = self.questions
        for address in addresses:
            self.watermarks[address] = max(self.watermarks.get(address, 0), found.watermarks.get(address, 0))
        for address in self._unknown:
            digest = self._watermark_of[address]
            cell = value_cell(digest, self.watermarks.get(address, 0), b"")
            self._settle(digest, cell, self._lifetimes.watermark, marked)
        for digest in asked:
            row = found.rows.get(digest)
            cell, ttl = (b"", 0) if row is None else self._judge_row(digest, row)
            if self._settle(digest, cell, ttl, marked) and cell:
                self.promoting.add(self._front(digest))
        self._unknown.clear()
        self._absent.clear()
        self._judge_waiting()

    def _settle(self, digest: bytes, cell: bytes, ttl: int, marked: set[bytes]) -> bool:
        key = self._front(digest)
        if key in marked:
            self.settles.append(Step(SETTLE_READ, key, cell, ttl))
        return key in marked

    def _judge_row(self, digest: bytes, row: Row) -> tuple[bytes, int]:
        if not intact(digest, row.envelope):
            self.corrupt += 1
        elif row.version > self._floor(self._keys[digest].scope):
            self.answers[digest] = Answer(row.envelope, from_front=False)
            return value_cell(digest, row.version, row.envelope), self._lifetimes.of_cell(row.left)
        return b"", 0

    def _judge_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for digest, value in waiting.items():
            self._judge(digest, value)

    def _judge(self, digest: bytes, value: Value) -> None:
        scope = self._keys[digest].scope
        if any(address not in self.watermarks for address in scope.addresses):
            self._waiting[digest] = value
        elif value.version > self._floor(scope):
            self.answers[digest] = Answer(value.envelope, from_front=True)
        else:
            self._absent[digest] = value_cell(digest, value.version, b"")[:HEAD_BYTES]

    def _floor(self, scope: Scope) -> int:
        return max(self.watermarks[address] for address in scope.addresses)

    def _markable(self, cell: bytes | None) -> bytes | None:
        if not cell:
            return b""
        if is_mark(cell):
            return None
        self.corrupt += 1
        return cell[:HEAD_BYTES]

    def _front(self, digest: bytes) -> bytes:
        return front_key(self._prefix, digest)
