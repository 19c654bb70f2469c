"""What to ask of each tier for a batch of keys, and what the answers mean; without any input or output.

A `Look` is at the front: it answers what the front can, and leaves the rest as `Missing`. A `Fetch` gets those from the
store and says what to promote. Keys of several looks may come together in one fetch.

A cell or a row counts only if its version is above the watermark of its namespace and of every namespace above. A
watermark that the front does not have is unknown, never zero, and is read from the store.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from ._cells import HEAD_BYTES, Value, intact, is_mark, read_value, value_cell
from ._keys import Key, Scope, front_key, front_keys
from ._options import SHARED_FRONT_TTL, Options, milliseconds
from ._rule import MARK_READ, SETTLE_READ, Step
from ._tiers import Found, Row


class Answer(NamedTuple):
    """What was found for a key: an intact envelope, and which tier had it."""

    envelope: bytes
    from_front: bool


class Missing(NamedTuple):
    """A key that the front could not answer.

    `head` is that of the invalid cell that a reader's mark may replace, b"" where there is no cell, None where nothing
    may be marked. `value` is what the front holds where only a watermark is lacking to judge it.
    """

    key: Key
    head: bytes | None
    value: Value | None
    look: Look


class Lifetimes:
    """How long cells stay in the front, in milliseconds."""

    def __init__(self, options: Options) -> None:
        self._longest = SHARED_FRONT_TTL if options.front_ttl is None else options.front_ttl
        self._jitter = options.front_ttl_jitter
        self.watermark = milliseconds(options.watermark_ttl)

    def of_cell(self, left: int | None) -> int:
        """At most `front_ttl`, at most what is left of the entry; spread, so that no crowd of cells expires at once."""
        ttl = milliseconds(self._longest * (1 - self._jitter * random.random()))  # noqa: S311  (no secret)
        return ttl if left is None else min(ttl, left)


class Seen(NamedTuple):
    """A watermark as it was seen last: its cell in the front (b"" where the store told it), and its version."""

    cell: bytes
    version: int


class Look:
    """What the front knows of a batch of keys: ask it for `front_keys`, and `see` what it says.

    `seen` is what earlier looks saw, by address: a watermark whose cell is still the same needs no reading. The
    watermarks of `also` are looked at as well.
    """

    def __init__(
        self, keys: Sequence[Key], prefix: bytes, seen: Mapping[bytes, Seen], also: Sequence[Scope] = ()
    ) -> None:
        self._keys = {key.digest: key for key in keys}
        self._scopes = {key.scope.address: key.scope for key in keys}
        self._watermark_of: dict[bytes, bytes] = {}
        for scope in (*also, *self._scopes.values()):
            self._watermark_of |= scope.watermarks
        self._prefix = prefix
        self._seen = seen
        self._doubtful: Container[bytes] = ()
        #: By digest, each key in one of the two once the front has been asked.
        self.answers: dict[bytes, Answer] = {}
        self.missing: dict[bytes, Missing] = {}
        self.corrupt: int = 0
        #: By address: versions of the last clears; and what may be marked where the front could not tell (see `head`).
        self.watermarks: dict[bytes, int] = {}
        self.unknown: dict[bytes, bytes | None] = {}
        #: Those watermarks that had changed.
        self.news: dict[bytes, Seen] = {}

    @property
    def front_keys(self) -> list[bytes]:
        """What to ask of the front, in one go: the cells of all keys, then all watermarks."""
        return front_keys(self._prefix, self.digests())

    def digests(self) -> Iterable[bytes]:
        return (*self._keys, *self._watermark_of.values())

    def see(self, cells: Sequence[bytes | None] | None, doubtful: Container[bytes] = ()) -> None:
        """Takes the front's answer to `front_keys`; None where it did not answer.

        `doubtful` are digests whose cells are not to be believed, nor marked: whoever changed what they stand for could
        not mark them either.
        """
        self._doubtful = doubtful
        if cells is None:  # and is not asked to take a mark a moment later either
            self.unknown = dict.fromkeys(self._watermark_of)
            self.missing = {digest: Missing(key, None, None, self) for digest, key in self._keys.items()}
            return
        self._see_watermarks(cells[len(self._keys) :])
        self._see_entries(cells[: len(self._keys)])

    def _see_watermarks(self, cells: Sequence[bytes | None]) -> None:
        for (address, digest), cell in zip(self._watermark_of.items(), cells, strict=True):
            seen = self._seen.get(address)
            if digest in self._doubtful:
                self.unknown[address] = None
            elif cell and seen is not None and seen.cell == cell:
                self.watermarks[address] = seen.version
            elif cell and (value := read_value(digest, cell)) is not None:
                self.watermarks[address] = value.version
                self.news[address] = Seen(cell, value.version)
            else:
                self.unknown[address] = self._markable(cell)

    def _see_entries(self, cells: Sequence[bytes | None]) -> None:
        floors = {
            address: floor(self.watermarks, scope)
            for address, scope in self._scopes.items()
            if self.unknown.keys().isdisjoint(scope.addresses)
        }
        for (digest, key), cell in zip(self._keys.items(), cells, strict=True):
            value = read_value(digest, cell) if cell else None
            if digest in self._doubtful:
                self.missing[digest] = Missing(key, None, None, self)
            elif value is None or not intact(digest, value.envelope):
                self.missing[digest] = Missing(key, self._markable(cell), None, self)
            elif (cleared := floors.get(key.scope.address)) is None:
                self.missing[digest] = Missing(key, None, value, self)
            elif value.version > cleared:
                self.answers[digest] = Answer(value.envelope, from_front=True)
            else:
                self.missing[digest] = Missing(key, head_of(digest, value), None, self)

    def _markable(self, cell: bytes | None) -> bytes | None:
        if not cell:
            return b""
        if is_mark(cell):
            return None
        self.corrupt += 1
        return cell[:HEAD_BYTES]


class Fetch:
    """While `open`: leave the `marks`, ask the store the `questions`, `learn`; at last take the `settles`."""

    def __init__(self, missing: Sequence[Missing], prefix: bytes, lifetimes: Lifetimes) -> None:
        self._prefix = prefix
        self._lifetimes = lifetimes
        self.answers: dict[bytes, Answer] = {}
        self.corrupt = 0
        #: The steps that settle what was marked; the front keys of entries (not watermarks) that they are to put.
        self.settles: list[Step] = []
        self.promoting: set[bytes] = set()
        #: Versions of the last clears, by address, as far as known.
        self.watermarks: dict[bytes, int] = {}
        self._keys: dict[bytes, Key] = {}
        # Keys whose entry, and addresses whose watermark, the store must tell, with what may be marked; and values
        # whose watermarks are still unknown.
        self._absent: dict[bytes, bytes | None] = {}
        self._unknown: dict[bytes, tuple[bytes, bytes | None]] = {}
        self._waiting: dict[bytes, Value] = {}
        for each in missing:
            self._add(each)

    def _add(self, missing: Missing) -> None:
        key, head, value, look = missing
        digest = key.digest
        held = self._waiting.pop(digest, value) if digest in self._keys else value
        self._keys[digest] = key
        if value is not None and value == held and digest not in self._absent:
            self._waiting[digest] = value
        else:  # two looks saw different things: the later of them must not be given what the earlier saw
            self._absent[digest] = self._absent.get(digest) if head is None else head
        for address, watermark in key.scope.watermarks.items():
            if address in look.unknown:
                self._unknown[address] = (watermark, look.unknown[address])
            else:
                self.watermarks[address] = max(look.watermarks[address], self.watermarks.get(address, 0))

    @property
    def open(self) -> bool:
        return bool(self._absent or self._waiting)

    def trust(self, remembered: Mapping[bytes, Seen]) -> None:
        """Judges the waiting values by watermarks seen earlier: all there is while the store does not answer."""
        for address in self._unknown.keys() & remembered.keys():
            self.watermarks[address] = max(remembered[address].version, self.watermarks.get(address, 0))
        for digest, value in self._waiting.items():
            scope = self._keys[digest].scope
            if all(address in self.watermarks for address in scope.addresses):
                self._judge(digest, value)

    def marks(self) -> list[Step]:
        """The reader's marks to leave before the store is asked."""
        wanted = (*self._absent.items(), *self._unknown.values())
        return [Step(MARK_READ, self._front(digest), head) for digest, head in wanted if head is not None]

    @property
    def questions(self) -> tuple[list[bytes], list[bytes]]:
        """The digests and the addresses to ask of the store. Watermarks are asked anew, known or not."""
        scopes = [self._keys[digest].scope for digest in (*self._absent, *self._waiting)]
        return list(self._absent), list(dict.fromkeys(address for scope in scopes for address in scope.addresses))

    def learn(self, found: Found, marked: set[bytes]) -> None:
        """Takes the store's answer to `questions`, and settles those cells (front keys) that were `marked`."""
        absent, addresses = self.questions
        for address in addresses:
            self.watermarks[address] = max(self.watermarks.get(address, 0), found.watermarks.get(address, 0))
        for address, (digest, _) in self._unknown.items():
            cell = value_cell(digest, self.watermarks[address], b"")
            self._settle(digest, cell, self._lifetimes.watermark, marked)
        for digest in absent:
            row = found.rows.get(digest)
            cell, ttl = (b"", 0) if row is None else self._judge_row(digest, row)
            if self._settle(digest, cell, ttl, marked) and cell:
                self.promoting.add(self._front(digest))
        waiting, self._waiting = self._waiting, {}
        self._unknown.clear()
        self._absent.clear()
        for digest, value in waiting.items():
            self._judge(digest, value)

    def _settle(self, digest: bytes, cell: bytes, ttl: int, marked: set[bytes]) -> bool:
        key = self._front(digest)
        if key in marked:
            self.settles.append(Step(SETTLE_READ, key, cell, ttl))
        return key in marked

    def _judge_row(self, digest: bytes, row: Row) -> tuple[bytes, int]:
        if not intact(digest, row.envelope):
            self.corrupt += 1
        elif row.version > floor(self.watermarks, self._keys[digest].scope):
            self.answers[digest] = Answer(row.envelope, from_front=False)
            return value_cell(digest, row.version, row.envelope), self._lifetimes.of_cell(row.left)
        return b"", 0

    def _judge(self, digest: bytes, value: Value) -> None:
        if value.version > floor(self.watermarks, self._keys[digest].scope):
            self.answers[digest] = Answer(value.envelope, from_front=True)
        else:
            self._absent[digest] = head_of(digest, value)

    def _front(self, digest: bytes) -> bytes:
        return front_key(self._prefix, digest)


def floor(watermarks: Mapping[bytes, int], scope: Scope) -> int:
    """A version that counts in this namespace is above it."""
    return max(map(watermarks.__getitem__, scope.addresses))


def answer_of(found: Found, key: Key) -> Answer | None:
    """What the store holds for a key, and counts."""
    row = found.rows.get(key.digest)
    cleared = max((found.watermarks.get(address, 0) for address in key.scope.addresses), default=0)
    if row is None or row.version <= cleared or not intact(key.digest, row.envelope):
        return None
    return Answer(row.envelope, from_front=False)


def head_of(digest: bytes, value: Value) -> bytes:
    return value_cell(digest, value.version, b"")[:HEAD_BYTES]
