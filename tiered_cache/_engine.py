"""The ways through the house: mark, touch the store, settle; for a batch of keys at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from . import _portal as portal
from ._batch import Answer as Reply
from ._batch import Batcher
from ._cancel import to_the_end
from ._cells import TOKEN_BYTES, value_cell
from ._errors import StoreUnavailableError
from ._fork import forget_after_fork
from ._guard import GuardedFront, GuardedStore
from ._keys import Key, Scope, front_key
from ._look import Answer, Lifetimes, Look
from ._options import Options
from ._rule import MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from ._stats import Recorder
from ._tiers import Entry, Front, Store

_REMEMBERED_WATERMARKS = 65_536
_NAMES_PER_PAGE = 500

#: What a clear weighs when it is judged whether there is space to reclaim.
CHANGES_OF_A_CLEAR = 1000

Result = Answer | StoreUnavailableError | None


class Change(NamedTuple):
    """A key to be written; `ttl` in milliseconds, `listed` where its name is to be kept."""

    key: Key
    envelope: bytes
    ttl: int | None
    listed: bool


class Cell(NamedTuple):
    """What is to be put into the front, and for how many milliseconds."""

    content: bytes
    ttl: int


_NO_CELL = Cell(b"", 0)


class Engine:
    """Both tiers under the one rule. Belongs to no event loop."""

    def __init__(self, front: Front, store: Store, options: Options, recorder: Recorder) -> None:
        self._front = GuardedFront(front, options, recorder)
        self._store = GuardedStore(store, recorder)
        self._options = options
        self._recorder = recorder
        self._lifetimes = Lifetimes(options)
        self._prefix: bytes | None = None
        #: Told how many keys changed. A clear counts as many.
        self.on_change: Callable[[int], None] = lambda _: None
        self.forget()
        self._remembered: dict[bytes, int] = {}
        items, in_flight = options.batch_items, options.batches_in_flight
        self._reads: Batcher[Key, Result] = Batcher(self._read_batch, items=items, in_flight=in_flight)
        self._writes: Batcher[Change, None] = Batcher(self._write_batch, items=items, in_flight=in_flight)
        self._deletes: Batcher[Key, None] = Batcher(self._delete_batch, items=items, in_flight=in_flight)
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: what was being opened is opened in the parent alone."""
        self._opening: Future[bytes] | None = None

    async def open(self) -> bytes:
        """Makes the store ready on the first call; returns what begins this store's keys in the front.

        The store's own identity is part of it, so two stores never share a cell, whatever they and the front are named.
        """
        if self._prefix is None:
            identity = await self._store.setup(create=self._options.setup != "never")
            self._prefix = f"{self._options.prefix}:{identity}:".encode()
        return self._prefix

    def _open_soon(self) -> None:
        if self._opening is None or self._opening.done():
            self._opening = portal.submit(self.open)

    async def read(self, keys: Sequence[Key]) -> Sequence[Result]:
        """One result a key: what was found, None for a miss, or the error where only the store could have told."""
        return await self._reads.ask(keys)

    async def write(self, changes: Sequence[Change]) -> None:
        """Returns once all are committed. Raises StoreUnavailableError where they are not, or may not be."""
        await self._writes.ask(changes)

    async def delete(self, keys: Sequence[Key]) -> None:
        await self._deletes.ask(keys)

    async def clear(self, scope: Scope) -> None:
        """One mark, one row, one settle, whatever the namespace holds."""
        await self._clear(scope)
        self.on_change(CHANGES_OF_A_CLEAR)

    async def _clear(self, scope: Scope) -> None:
        digest = scope.watermarks[-1]

        async def commit() -> Iterable[Cell]:
            version = await self._store.clear(scope.address)
            self._remember({scope.address: version})
            return [Cell(value_cell(digest, version, b""), self._lifetimes.watermark)]

        await to_the_end(partial(self._change, [digest], commit, partial(self._recorder.add, "clears")))

    async def erase(self, scope: Scope) -> int:
        """Clears, and returns when the rows, and the cells of those rows, are gone; how many there were."""
        prefix = await self.open()
        await self._clear(scope)  # not telling the background, which would remove rows and know nothing of their cells
        erased = 0
        while digests := await self._store.erase(scope.address, self._options.reclaim_rows):
            erased += len(digests)
            # A writer's settle without its mark empties the cell, unless it is of a writer in between.
            await self._front.apply([Step(SETTLE_WRITE, front_key(prefix, digest)) for digest in digests], _token())
        return erased

    async def names(self, scope: Scope, prefix: bytes, after: bytes) -> Sequence[tuple[bytes, bytes]]:
        """The next page of valid (digest, name) in a namespace; nothing at the end."""
        await self.open()
        return await self._store.names(scope.address, prefix, after, _NAMES_PER_PAGE)

    async def reclaim(self) -> int:
        """Removes one small batch of expired and cleared rows; how many."""
        await self.open()
        removed = await self._store.reclaim(self._options.reclaim_rows)
        self._recorder.add("reclaimed", removed)
        return removed

    async def _read_batch(self, keys: Sequence[Key], reply: Reply[Result]) -> None:
        if self._prefix is None and self._options.setup == "background":
            self._open_soon()
            self._recorder.add("misses", len(keys))
            reply([None] * len(keys))
            return
        try:
            prefix = await self.open()
        except StoreUnavailableError as error:
            reply([error] * len(keys))
            return
        look = Look(keys, prefix, self._lifetimes)
        cells = await self._front.get(look.front_keys)
        look.see(cells)
        unavailable: StoreUnavailableError | None = None
        token = _token()
        while look.open and unavailable is None:
            # A front that did not answer a moment ago is not asked to take a mark.
            marks = look.marks() if cells is not None else []
            try:
                marked = await self._mark(marks, token)
                look.learn(await self._store.read(*look.questions), marked)
            except StoreUnavailableError as error:
                unavailable = error
                look.trust(self._remembered)
            except BaseException:  # cancelled, above all: a mark left behind would keep others from promoting
                await self._settle([*look.settles, *(Step(SETTLE_READ, mark.key) for mark in marks)], token)
                raise
            if unavailable is not None:
                look.settles += [Step(SETTLE_READ, mark.key) for mark in marks]
        self._remember(look.watermarks)
        self._count(look, keys)
        reply([look.answers.get(key.digest, unavailable) for key in keys])
        promoted = await self._settle(look.settles, token)
        self._recorder.add("promotions", len(promoted & look.promoting))

    async def _mark(self, steps: list[Step], token: bytes) -> set[bytes]:
        """The front keys on which the marks now stand."""
        return _keys_done(steps, await self._front.apply(steps, token) if steps else None)

    async def _settle(self, steps: list[Step], token: bytes) -> set[bytes]:
        """The front keys that hold a value now, put by us."""
        done = await to_the_end(partial(self._front.apply, steps, token)) if steps else None
        return _keys_done(steps, done)

    async def _write_batch(self, changes: Sequence[Change], reply: Reply[None]) -> None:
        last = {change.key.digest: change for change in changes}
        entries = [
            Entry(digest, key.scope.address, envelope, ttl, key.name if listed else None)
            for digest, (key, envelope, ttl, listed) in last.items()
        ]

        async def commit() -> Iterable[Cell]:
            versions = await self._store.write(entries)
            return [
                Cell(value_cell(entry.digest, version, entry.envelope), self._lifetimes.of_cell(entry.ttl))
                for entry, version in zip(entries, versions, strict=True)
            ]

        def committed() -> None:
            self._recorder.add("sets", len(changes))
            reply([None] * len(changes))

        await to_the_end(partial(self._change, list(last), commit, committed))
        self.on_change(len(entries))

    async def _delete_batch(self, keys: Sequence[Key], reply: Reply[None]) -> None:
        digests = list({key.digest: None for key in keys})

        async def commit() -> Iterable[Cell]:
            await self._store.delete(digests)
            return [_NO_CELL] * len(digests)

        def committed() -> None:
            self._recorder.add("deletes", len(keys))
            reply([None] * len(keys))

        await to_the_end(partial(self._change, digests, commit, committed))

    async def _change(
        self,
        digests: Sequence[bytes],
        commit: Callable[[], Awaitable[Iterable[Cell]]],
        committed: Callable[[], None],
    ) -> None:
        """Marks the cells, commits, settles them with what `commit` returns, and calls `committed`.

        To be run to the end: a caller cancelled in mid-commit could otherwise not know whether it happened, nor could
        those who share it; and a mark that nobody settles keeps its key out of the front until it expires.
        """
        prefix = await self.open()
        keys = [front_key(prefix, digest) for digest in digests]
        token = _token()
        cells: Iterable[Cell] = [_NO_CELL] * len(keys)  # not committed, or nobody knows: the next reader asks the store
        marks = [Step(MARK_WRITE, key) for key in keys]
        marked = await self._front.apply(marks, token)
        try:
            cells = await commit()
        finally:
            # A mark that was not confirmed may arrive yet, after others have committed and settled: it stands for
            # nothing, and this settle, should it be late as well, must find no value to put on it.
            standing = _keys_done(marks, marked)
            settled = await self._front.apply(
                [
                    Step(SETTLE_WRITE, key, cell, ttl) if key in standing else Step(SETTLE_WRITE, key)
                    for key, (cell, ttl) in zip(keys, cells, strict=True)
                ],
                token,
            )
            if marked is None and settled is None:
                self._recorder.add("unmarked", len(keys))
        committed()

    def _remember(self, watermarks: Mapping[bytes, int]) -> None:
        """Keeps the watermarks seen last, for reads while the store is away."""
        if len(self._remembered) > _REMEMBERED_WATERMARKS:
            self._remembered.clear()
        for address, version in watermarks.items():
            self._remembered[address] = max(version, self._remembered.get(address, 0))

    def _count(self, look: Look, keys: Sequence[Key]) -> None:
        tiers = Counter(answer.from_front for key in keys if (answer := look.answers.get(key.digest)) is not None)
        self._recorder.add("hits_front", tiers[True])
        self._recorder.add("hits_store", tiers[False])
        self._recorder.add("misses", len(keys) - tiers.total())
        self._recorder.add("corrupt", look.corrupt)


def _keys_done(steps: Sequence[Step], done: Sequence[bool] | None) -> set[bytes]:
    return {step.key for step, mine in zip(steps, done or (), strict=False) if mine}


def _token() -> bytes:
    return os.urandom(TOKEN_BYTES)
