"""The ways through the house: mark, touch the store, settle; for a batch of keys at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from math import inf
from time import monotonic
from typing import NamedTuple, cast

from . import _portal as portal
from ._batch import Batcher, Limits, Reply
from ._breaker import State
from ._cancel import to_the_end
from ._cells import TOKEN_BYTES, dated, value_cell
from ._clock import StoreClock
from ._doubts import Doubts
from ._errors import FrontUnavailableError, StoreUnavailableError
from ._fork import forget_after_fork
from ._guard import GuardedFront, GuardedStore
from ._keys import Key, Scope, front_key
from ._leases import Leases, is_lease
from ._look import Answer, Fetch, Lifetimes, Look, Missing, Seen, answer_of, floor
from ._options import Options
from ._rule import MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from ._stats import Recorder
from ._tiers import Entry, Found, Front, Row, Store

_REMEMBERED_WATERMARKS = 65_536
_NAMES_PER_PAGE = 500
_NOTICES_PER_PAGE = 500

# What an entry is taken to weigh before the first has been seen.
_TYPICAL_BYTES = 2048

#: What a clear weighs when it is judged whether there is space to reclaim.
CHANGES_OF_A_CLEAR = 1000

Result = Answer | StoreUnavailableError | None


class Change(NamedTuple):
    """A key to be written; `ttl` and `grace` in milliseconds, `listed` where its name is to be kept.

    Without `in_front` it is in the store alone: the front is marked and settled as ever, but gets no value.
    """

    key: Key
    envelope: bytes
    ttl: int | None
    listed: bool
    grace: int = 0
    in_front: bool = True


class Cell(NamedTuple):
    """What is to be put into the front, and for how many milliseconds."""

    content: bytes
    ttl: int


_NO_CELL = Cell(b"", 0)


class Inspected(NamedTuple):
    """What the tiers hold for one key, and what this process knows of it."""

    #: Whether the store has ever been reached; the cell, and those of the watermarks, None where the front did not
    #: answer; whether one of them is not to be believed.
    opened: bool
    cells: Sequence[bytes | None] | None = None
    doubtful: bool = False
    #: What the store says, expired rows in their time of grace included; None where it did not answer. The row that is
    #: not in it since it has expired for good.
    found: Found | None = None
    expired: Row | None = None
    #: The watermarks seen last, by address, as far as they were.
    remembered: Mapping[bytes, int] = {}


class Engine:
    """Both tiers under the one rule. Belongs to no event loop.

    `local` says that nobody else has this front, and that it cannot be out of reach: then there is nobody to be told of
    a change that the front was not, and nobody to wait for.
    """

    def __init__(
        self,
        front: Front,
        store: Store,
        options: Options,
        recorder: Recorder,
        *,
        local: bool,
        clock: StoreClock | None = None,
    ) -> None:
        self._front = GuardedFront(front, options, recorder)
        self._store = GuardedStore(store, options, recorder)
        self._options = options
        self._recorder = recorder
        self._lifetimes = Lifetimes(options)
        self._prefix: bytes | None = None
        self._local = local
        self._doubts = Doubts()
        self.clock: StoreClock = StoreClock() if clock is None else clock
        #: Told how many keys changed. A clear counts as many.
        self.on_change: Callable[[int], None] = lambda _: None
        #: Told of every use, and whether it left something of which the front has to be told.
        self.on_use: Callable[[bool], None] = lambda _: None
        #: Told of the keys that the front answered.
        self.on_hits: tuple[Callable[[Sequence[Key]], None], ...] = ()
        self.leases: Leases | None = None if local else Leases(self._front, options)
        self.forget()
        self._remembered: dict[bytes, Seen] = {}
        self._typical = _TYPICAL_BYTES
        limits = Limits(options.batch_items, options.batch_bytes, options.batches_in_flight)
        self._looks: Batcher[Key, Result | Missing] = Batcher(self._look, limits, self._weigh, eager=True)
        self._fetches: Batcher[Missing, Result] = Batcher(self._fetch, limits, self._weigh)
        self._writes: Batcher[Change, None] = Batcher(self._write, limits, _weigh_changes, binding=True)
        self._stales: Batcher[Key, Answer | None] = Batcher(self._read_stale, limits, self._weigh)
        self._peeks: Batcher[Key, Row | None] = Batcher(self._peek, limits, self._weigh)
        self._times: Batcher[None, None] = Batcher(self._ask_time, limits)
        self._clears: Batcher[Scope, int | None] = Batcher(self._cleared_at, limits)
        self._deletes: Batcher[Key, None] = Batcher(self._delete, limits, binding=True)
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: what was being opened is opened in the parent alone."""
        self._opening: Future[bytes] | None = None
        self._refusal: tuple[float, StoreUnavailableError] | None = None  # and until when it stands

    async def aclose(self) -> None:
        """Ends what is under way in the background. The tiers are the caller's to close."""
        if self.leases is not None:
            await self.leases.aclose()

    async def open(self) -> bytes:
        """Makes the store ready on the first call; returns what begins this store's keys in the front.

        The store's own identity is part of it, so two stores never share a cell, whatever they and the front are named.
        """
        if self._prefix is None:
            began = monotonic()
            try:
                identity = await self._store.setup(create=self._options.setup != "never")
            except StoreUnavailableError as error:
                # As long as this took, readers are spared another attempt: all of them would be held up all the time.
                self._refusal = (2 * monotonic() - began, error)
                raise
            self._prefix = f"{self._options.prefix}:{identity}:".encode()
        return self._prefix

    async def _opened(self) -> bytes:
        """The same for readers, who do not try again what has just been tried."""
        if self._prefix is None and self._refusal is not None and monotonic() < self._refusal[0]:
            raise self._refusal[1].with_traceback(None)
        return await self.open()

    def _open_soon(self) -> None:
        if self._opening is None or self._opening.done():
            self._opening = portal.submit(self.open)

    async def read(self, keys: Sequence[Key]) -> Sequence[Result]:
        """One result a key: what was found, None for a miss, or the error where only the store could have told."""
        if len(keys) > 1:
            most = max(1, min(self._options.batch_items, self._options.batch_bytes // self._typical))
            if len(keys) > most:
                parts = [await self.read(keys[start : start + most]) for start in range(0, len(keys), most)]
                return [result for part in parts for result in part]
        found = await self._looks.ask(keys)
        # Whom the front answers is not kept waiting by others of his batch: only who needs the store goes on to it.
        missing = [each for each in found if isinstance(each, Missing)]
        if not missing:
            return cast("Sequence[Result]", found)
        fetched = iter(await self._fetches.ask(missing))
        return [next(fetched) if isinstance(each, Missing) else each for each in found]

    async def read_stale(self, key: Key) -> Answer | None:
        """What the store has of a key in its time of grace, if not longer; from the store alone, and not promoted."""
        (answer,) = await self._stales.ask([key])
        return answer

    async def _read_stale(self, keys: Sequence[Key], reply: Reply[Answer | None]) -> None:
        reply(await self._read_store(keys, stale=True))

    async def read_stored(self, keys: Sequence[Key]) -> Sequence[Answer | None]:
        """What the store has of a few keys, from the store alone, and not promoted."""
        return await self._read_store(keys, stale=False)

    async def _read_store(self, keys: Sequence[Key], *, stale: bool) -> Sequence[Answer | None]:
        await self._opened()
        wanted = {key.digest: key for key in keys}
        addresses = {address: None for key in wanted.values() for address in key.scope.addresses}
        found = await self._store.read(list(wanted), list(addresses), stale=stale)
        return [answer_of(found, key) for key in keys]

    async def peek(self, key: Key) -> Row | None:
        """The row of a key, cleared or expired or not, as long as it was not removed; from the store alone."""
        (row,) = await self._peeks.ask([key])
        return row

    async def _peek(self, keys: Sequence[Key], reply: Reply[Row | None]) -> None:
        await self._opened()
        rows = await self._store.peek(list({key.digest: None for key in keys}))
        reply([rows.get(key.digest) for key in keys])

    async def learn_time(self) -> None:
        """Asks the store what time it is, where the last answer is old, or never came. Raises nothing if it fails."""
        if self._prefix is not None and self.clock.due():
            await self._times.ask([None])

    async def _ask_time(self, questions: Sequence[None], reply: Reply[None]) -> None:
        asked = self.clock.tick()
        try:
            if self._store.breaker.state == "closed":
                self.clock.learn(asked, await self._store.now())
        except StoreUnavailableError:
            self.clock.failed()  # counted and logged where it was raised
        reply(questions)

    async def inspect(self, key: Key) -> Inspected:
        """What there is of a key. Nothing is marked, promoted or counted as a read, and nothing raised."""
        scope, found, expired = key.scope, None, None
        try:
            prefix = await self._opened()
        except StoreUnavailableError:
            return Inspected(opened=False)
        digests = (key.digest, *scope.watermarks)
        cells = await self._front.get([front_key(prefix, digest) for digest in digests])
        try:
            found = await self._store.read([key.digest], scope.addresses, stale=True)
            if key.digest not in found.rows:
                expired = (await self._store.peek([key.digest])).get(key.digest)
        except StoreUnavailableError:
            found = None  # counted and logged where it was raised
        await self.learn_time()
        known = self._remembered
        seen = {address: known[address].version for address in scope.addresses if address in known}
        doubts = self._doubts.among(lambda: digests)
        return Inspected(True, cells, doubts is None or bool(doubts), found, expired, seen)

    async def front_key(self, key: Key) -> bytes:
        """Where the front keeps the cell of a key."""
        return front_key(await self._opened(), key.digest)

    def last_cleared(self, scope: Scope) -> int | None:
        """The same as `cleared_at`, as far as this process remembers, without asking anybody."""
        seen = [self._remembered.get(address) for address in scope.addresses]
        return None if None in seen else max(each.version for each in seen if each is not None)

    async def cleared_at(self, scope: Scope) -> int | None:
        """The version of the last clear of a namespace or of one above it; None where nobody can tell.

        Both tiers are asked as a read would ask them.
        """
        try:
            (version,) = await self._clears.ask([scope])
        except StoreUnavailableError:
            return None
        return version

    async def _cleared_at(self, scopes: Sequence[Scope], reply: Reply[int | None]) -> None:
        look = Look([], await self._opened(), self._remembered, scopes)
        await self._ask_front(look)
        watermarks = dict(look.watermarks)
        if look.unknown:
            found = await self._store.read([], list(look.unknown))
            watermarks |= {address: found.watermarks.get(address, 0) for address in look.unknown}
        reply([floor(watermarks, scope) for scope in scopes])

    async def differing(self, keys: Sequence[Key]) -> list[Key] | None:
        """Those that the front would answer, before and after the store was asked, with what the store does not hold.

        None where the front does not answer. Nothing is promoted, and nothing is counted as a read.
        """
        before, after = [Look(keys, await self._opened(), {}) for _ in range(2)]
        if not await self._ask_front(before):
            return None
        addresses = {address: None for key in keys for address in key.scope.addresses}
        found = await self._store.read(list(before.answers), list(addresses))
        if not await self._ask_front(after):
            return None

        def differs(key: Key) -> bool:
            served, held = before.answers.get(key.digest), answer_of(found, key)
            if served is None or served != after.answers.get(key.digest):
                return False
            return held is None or held.envelope != served.envelope

        return [key for key in keys if differs(key)]

    async def write(self, changes: Sequence[Change]) -> None:
        """Returns once all are committed. Raises StoreUnavailableError where they are not, or may not be."""
        if not self.clock.known:
            changes = await self._dated(changes)
        await self._writes.ask(changes)
        await self.learn_time()  # not before: a store that does not answer would be waited for twice

    async def _dated(self, changes: Sequence[Change]) -> Sequence[Change]:
        """The same with the moment at which they were made, where nothing was known of the store's clock then."""
        made = self.clock.tick()
        await self.open()
        await self.learn_time()
        moment = self.clock.earliest(made)
        if moment is None:
            return changes
        return [each._replace(envelope=dated(each.key.digest, each.envelope, moment)) for each in changes]

    async def delete(self, keys: Sequence[Key]) -> None:
        await self._deletes.ask(keys)

    async def clear(self, scope: Scope) -> None:
        """One mark, one row, one settle, whatever the namespace holds."""
        await self._clear(scope)
        self.on_change(CHANGES_OF_A_CLEAR)

    async def _clear(self, scope: Scope) -> None:
        digest = scope.watermarks[-1]
        prefix = await self.open()

        async def commit(journal: Sequence[bytes]) -> Iterable[Cell]:
            version = await self._store.clear(scope.address, journal)
            self._remember({scope.address: Seen(b"", version)})
            return [Cell(value_cell(digest, version, b""), self._lifetimes.watermark)]

        await to_the_end(partial(self._change, prefix, [digest], commit, partial(self._recorder.add, "clears")))

    async def erase(self, scope: Scope) -> int:
        """Clears, and returns when the rows, and the cells of those rows, are gone; how many there were.

        Raises FrontUnavailableError where the front does not answer: then rows may be left, unreadable, whose cells
        are to be emptied first, and another call goes on with them.
        """
        await self._clear(scope)  # not telling the background, which would take part in the work
        erased = 0
        while removed := await self._store.erase(scope.address, self._options.reclaim_rows, self._empty):
            erased += removed
        return erased

    async def names(self, scope: Scope, prefix: bytes, after: bytes) -> Sequence[tuple[bytes, bytes]]:
        """The next page of valid (digest, name) in a namespace; nothing at the end."""
        await self.open()
        return await self._store.names(scope.address, prefix, after, _NAMES_PER_PAGE)

    async def reclaim(self) -> int:
        """Removes one small batch of expired and cleared rows; how many.

        Raises FrontUnavailableError where nothing is left but cleared rows, and the front does not answer.
        """
        await self.open()
        removed = await self._store.reclaim(self._options.reclaim_rows, self._empty)
        self._recorder.add("reclaimed", removed)
        return removed

    async def _empty(self, digests: Sequence[bytes]) -> None:
        """Empties the cells of rows that are about to be removed. After that, nobody knows where to look for them."""
        prefix = await self.open()
        keys = [front_key(prefix, digest) for digest in digests]
        cells = await self._front.get(keys)
        # Somebody who computes the value anew has nothing to do with the old one, and must not lose his lease for it.
        old = [key for key, cell in zip(keys, cells or (), strict=False) if not (cell and is_lease(cell))]
        if cells is None or not await self._emptied(old):
            raise FrontUnavailableError(
                "the front does not answer, so what it holds of cleared namespaces stays, unreadable, until it does: "
                "try again later"
            )

    async def _emptied(self, keys: Sequence[bytes]) -> bool:
        # A writer's settle without its mark empties the cell, unless it is of a writer in between, who will. An empty
        # one too: a mark may have come since.
        return not keys or await self._front.apply([Step(SETTLE_WRITE, key) for key in keys], _token()) is not None

    async def _look(self, keys: Sequence[Key], reply: Reply[Result | Missing]) -> None:
        prefix = self._prefix
        if prefix is None and self._options.setup == "background":
            self._open_soon()
            self._recorder.add("misses", len(keys))
            reply([None] * len(keys))
            return
        if prefix is None:
            try:
                prefix = await self._opened()
            except StoreUnavailableError as error:
                reply([error] * len(keys))
                return
        self.on_use(False)
        look = Look(keys, prefix, self._remembered)
        await self._ask_front(look, reply.since)
        self._learn([len(answer.envelope) for answer in look.answers.values()])
        if look.news:
            self._remember(look.news)
        self._recorder.add("hits_front", sum(key.digest in look.answers for key in keys))
        for told in self.on_hits:
            told([key for key in keys if key.digest in look.answers])
        self._recorder.add("corrupt", look.corrupt)
        reply([look.answers.get(key.digest) or look.missing[key.digest] for key in keys])

    async def _ask_front(self, look: Look, since: float = inf) -> bool:
        """Whether it answered. Of what was doubtful before it did, or is now, nothing is believed."""
        before = self._doubts.among(look.digests)
        cells = await self._front.get(look.front_keys, since)
        after = self._doubts.among(look.digests)
        if before is None or after is None:
            cells = None
        look.see(cells, {*(before or ()), *(after or ())} if before or after else ())
        return cells is not None

    async def _fetch(self, missing: Sequence[Missing], reply: Reply[Result]) -> None:
        fetch = Fetch(missing, await self.open(), self._lifetimes)
        unavailable: StoreUnavailableError | None = None
        token = _token()
        while fetch.open and unavailable is None:
            marks = fetch.marks()
            try:
                self._store.spare("read", reply.since)
                marked = _keys_done(marks, await self._front.apply(marks, token, since=reply.since) if marks else None)
                found = await self._store.read(*fetch.questions)
                fetch.learn(found, marked)
                self._learn([len(row.envelope) for row in found.rows.values()])
            except StoreUnavailableError as error:
                unavailable = error
                fetch.trust(self._remembered)
            except BaseException:  # cancelled, above all: a mark left behind would keep others from promoting
                await self._settle([*fetch.settles, *(Step(SETTLE_READ, mark.key) for mark in marks)], token)
                raise
            if unavailable is not None:
                fetch.settles += [Step(SETTLE_READ, mark.key) for mark in marks]
        self._remember({address: Seen(b"", version) for address, version in fetch.watermarks.items()})
        answers = [fetch.answers.get(each.key.digest) for each in missing]
        tiers = Counter(answer.from_front for answer in answers if answer is not None)
        self._recorder.add("hits_front", tiers[True])
        self._recorder.add("hits_store", tiers[False])
        self._recorder.add("misses", len(missing) - tiers.total())
        self._recorder.add("corrupt", fetch.corrupt)
        reply([answer or unavailable for answer in answers])
        promoted = await self._settle(fetch.settles, token)
        self._recorder.add("promotions", len(promoted & fetch.promoting))

    async def _settle(self, steps: list[Step], token: bytes) -> set[bytes]:
        """The front keys that hold a value now, put by us."""
        done = await to_the_end(partial(self._front.apply, steps, token)) if steps else None
        return _keys_done(steps, done)

    async def _write(self, changes: Sequence[Change], reply: Reply[None]) -> None:
        self._store.spare("change", reply.since)
        last = {change.key.digest: change for change in changes}
        entries = [
            Entry(digest, key.scope.address, envelope, ttl, key.name if listed else None, grace)
            for digest, (key, envelope, ttl, listed, grace, _) in last.items()
        ]

        prefix = await self.open()

        async def commit(journal: Sequence[bytes]) -> Iterable[Cell]:
            versions = await self._store.write(entries, journal)
            return [
                Cell(value_cell(entry.digest, version, entry.envelope), self._lifetimes.of_cell(entry.ttl))
                if last[entry.digest].in_front
                else _NO_CELL
                for entry, version in zip(entries, versions, strict=True)
            ]

        def committed() -> None:
            self._recorder.add("sets", len(changes))
            reply([None] * len(changes))

        await to_the_end(partial(self._change, prefix, list(last), commit, committed, reply.since))
        self.on_change(len(entries))

    async def _delete(self, keys: Sequence[Key], reply: Reply[None]) -> None:
        self._store.spare("change", reply.since)
        digests = list({key.digest: None for key in keys})
        prefix = await self.open()

        async def commit(journal: Sequence[bytes]) -> Iterable[Cell]:
            await self._store.delete(digests, journal)
            return [_NO_CELL] * len(digests)

        def committed() -> None:
            self._recorder.add("deletes", len(keys))
            reply([None] * len(keys))

        await to_the_end(partial(self._change, prefix, digests, commit, committed, reply.since))

    async def _change(
        self,
        prefix: bytes,
        digests: Sequence[bytes],
        commit: Callable[[Sequence[bytes]], Awaitable[Iterable[Cell]]],
        committed: Callable[[], None],
        since: float = inf,
    ) -> None:
        """Marks the cells, commits, settles them with what `commit` returns, and calls `committed`.

        `since` is when it was asked for: where the front has kept waiting for nothing who wait since then, it is not
        waited for again.

        What could not be marked goes into the journal, with the commit. To be run to the end: a caller cancelled in
        mid-commit could otherwise not know whether it happened, nor could those who share it; and a mark that nobody
        settles keeps its key out of the front until it expires.
        """
        keys = {front_key(prefix, digest): digest for digest in digests}
        token = _token()
        cells: Iterable[Cell] = [_NO_CELL] * len(keys)  # not committed, or nobody knows: the next reader asks the store
        marks = [Step(MARK_WRITE, key) for key in keys]
        spared = self._front.kept_waiting(since)
        standing = _keys_done(marks, await self._front.apply(marks, token, since=since))
        journal = [] if self._local else [key for key in keys if key not in standing]
        if journal:
            self._doubts.add(keys[key] for key in journal)
        try:
            cells = await commit(journal)
        finally:
            # A mark that was not confirmed may arrive yet, after others have committed and settled: it stands for
            # nothing, and this settle, should it be late as well, must find no value to put on it.
            settled = await self._front.apply(
                [
                    Step(SETTLE_WRITE, key, cell, ttl) if key in standing else Step(SETTLE_WRITE, key)
                    for key, (cell, ttl) in zip(keys, cells, strict=True)
                ],
                token,
                since=since if spared else inf,  # who has waited for his mark alone still tries to empty the cell
            )
            if journal:
                # Anew: while this was being committed, somebody may have taken the doubts for settled.
                doubts = self._doubts.add(keys[key] for key in journal)
                if settled is None:
                    self._recorder.add("unmarked", len(journal))
                else:  # whatever was there is not there any more
                    self._doubts.settle(doubts)
            self.on_use(bool(journal) and settled is None)
        committed()

    async def deliver(self) -> int:
        """Empties the cells that somebody could not mark when he changed what they stand for; how many.

        Raises FrontUnavailableError where the front still does not answer.
        """
        prefix = await self.open()
        doubts = self._doubts.now()
        delivered = 0
        while True:
            notices = await self._store.journal(prefix, _NOTICES_PER_PAGE)
            if not await self._emptied([notice.cell for notice in notices]):
                raise FrontUnavailableError("the front does not answer yet: it is told later what changed meanwhile")
            await self._store.acknowledge(notices)
            delivered += len(notices)
            if len(notices) < _NOTICES_PER_PAGE:
                break
        # Whatever was doubtful when this began, and committed, was in the journal, or somebody has delivered it.
        self._doubts.settle(doubts)
        self._recorder.add("delivered", delivered)
        return delivered

    @property
    def breakers(self) -> Mapping[str, State]:
        """Whether the tiers are asked, by kind of exchange."""
        states: dict[str, State] = {kind: breaker.state for kind, breaker in self._front.breakers.items()}
        return {**states, "store_read": self._store.breaker.state}

    @property
    def doubtful(self) -> bool:
        """Whether there is something of which the front has not been told, as far as this process knows."""
        return bool(self._doubts)

    def _remember(self, watermarks: Mapping[bytes, Seen]) -> None:
        """Keeps the watermarks seen last: for reads while the store is away, and to know a cell again."""
        if len(self._remembered) > _REMEMBERED_WATERMARKS:
            self._remembered.clear()
        for address, seen in watermarks.items():
            before = self._remembered.get(address)
            if before is None or before.version < seen.version or (before.version == seen.version and seen.cell):
                self._remembered[address] = seen

    def _weigh(self, questions: Sequence[object]) -> int:
        """What reads will probably bring, so that their batches can be limited before their answers are seen."""
        return len(questions) * self._typical

    def _learn(self, sizes: Sequence[int]) -> None:
        if sizes:
            self._typical = max(1, (3 * self._typical + sum(sizes) // len(sizes)) // 4)


def _weigh_changes(changes: Sequence[Change]) -> int:
    return sum(len(change.envelope) for change in changes)


def _keys_done(steps: Sequence[Step], done: Sequence[bool] | None) -> set[bytes]:
    return {step.key for step, mine in zip(steps, done or (), strict=False) if mine}


def _token() -> bytes:
    return os.urandom(TOKEN_BYTES)
