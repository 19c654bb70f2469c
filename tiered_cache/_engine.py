"""The ways through the house: mark, touch the store, settle; for a batch of keys at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import NamedTuple, cast

from ._access import Access
from ._batch import Batcher, Reply
from ._breaker import State
from ._cancel import to_the_end
from ._cells import dated, new_token, value_cell
from ._clock import StoreClock
from ._errors import StoreUnavailableError
from ._inquiries import Inquiries
from ._keys import Key, Scope, front_key
from ._leases import Leases
from ._look import Answer, Fetch, Lifetimes, Look, Missing, Seen
from ._options import Options
from ._rule import MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from ._stats import Recorder
from ._tiers import Entry, Front, Store
from ._upkeep import Upkeep

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
        access = Access(front, store, options, recorder, StoreClock() if clock is None else clock)
        self.access: Access = access
        self.inquiries: Inquiries = Inquiries(access)
        self.upkeep: Upkeep = Upkeep(access)
        self.leases: Leases | None = None if local else Leases(access.front, options)
        self._front, self._store, self._recorder = access.front, access.store, recorder
        self._lifetimes = Lifetimes(options)
        self._local = local
        #: Told how many keys changed. A clear counts as many.
        self.on_change: Callable[[int], None] = lambda _: None
        #: Told of every use, and whether it left something of which the front has to be told.
        self.on_use: Callable[[bool], None] = lambda _: None
        #: Told of the keys that the front answered.
        self.on_hits: tuple[Callable[[Sequence[Key]], None], ...] = ()
        limits, weigh = access.limits, access.weigh
        self._looks: Batcher[Key, Result | Missing] = Batcher(self._look, limits, weigh, eager=True)
        self._fetches: Batcher[Missing, Result] = Batcher(self._fetch, limits, weigh)
        self._writes: Batcher[Change, None] = Batcher(self._write, limits, _weigh_changes, binding=True)
        self._deletes: Batcher[Key, None] = Batcher(self._delete, limits, binding=True)

    async def aclose(self) -> None:
        """Ends what is under way in the background. The tiers are the caller's to close."""
        if self.leases is not None:
            await self.leases.aclose()

    async def read(self, keys: Sequence[Key]) -> Sequence[Result]:
        """One result a key: what was found, None for a miss, or the error where only the store could have told."""
        if len(keys) > 1:
            most = max(1, min(self.access.options.batch_items, self.access.options.batch_bytes // self.access.typical))
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

    async def write(self, changes: Sequence[Change]) -> None:
        """Returns once all are committed. Raises StoreUnavailableError where they are not, or may not be."""
        if not self.clock.known:
            changes = await self._dated(changes)
        await self._writes.ask(changes)
        await self.inquiries.learn_time()  # not before: a store that does not answer would be waited for twice

    async def _dated(self, changes: Sequence[Change]) -> Sequence[Change]:
        """The same with the moment at which they were made, where nothing was known of the store's clock then."""
        made = self.clock.tick()
        await self.access.open()
        await self.inquiries.learn_time()
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
        digest = scope.watermark
        prefix = await self.access.open()

        async def commit(journal: Sequence[bytes]) -> Iterable[Cell]:
            version = await self._store.clear(scope.address, journal)
            self.access.remember({scope.address: Seen(b"", version)})
            return [Cell(value_cell(digest, version, b""), self._lifetimes.watermark)]

        await to_the_end(partial(self._change, prefix, [digest], commit, partial(self._recorder.add, "clears")))

    async def erase(self, scope: Scope) -> int:
        """Clears, and returns when the rows, and the cells of those rows, are gone; how many there were."""
        await self._clear(scope)  # not telling the background, which would take part in the work
        return await self.upkeep.remove_cleared(scope)

    async def _look(self, keys: Sequence[Key], reply: Reply[Result | Missing]) -> None:
        prefix = self.access.prefix
        if prefix is None and self.access.options.setup == "background":
            self.access.open_soon()
            self._recorder.add("misses", len(keys))
            reply([None] * len(keys))
            return
        if prefix is None:
            try:
                prefix = await self.access.opened()
            except StoreUnavailableError as error:
                reply([error] * len(keys))
                return
        self.on_use(False)
        look = Look(keys, prefix, self.access.remembered)
        await self.access.ask_front(look, reply.since)
        self.access.learn([len(answer.envelope) for answer in look.answers.values()])
        if look.news:
            self.access.remember(look.news)
        self._recorder.add("hits_front", sum(key.digest in look.answers for key in keys))
        for told in self.on_hits:
            told([key for key in keys if key.digest in look.answers])
        self._recorder.add("corrupt", look.corrupt)
        reply([look.answers.get(key.digest) or look.missing[key.digest] for key in keys])

    async def _fetch(self, missing: Sequence[Missing], reply: Reply[Result]) -> None:
        fetch = Fetch(missing, await self.access.open(), self._lifetimes)
        unavailable: StoreUnavailableError | None = None
        token = new_token()
        while fetch.open and unavailable is None:
            marks: list[Step] = []
            try:
                self._store.spare("read", reply.since)
                marks = fetch.marks()
                marked = _keys_done(marks, await self._front.apply(marks, token, since=reply.since) if marks else None)
                found = await self._store.read(*fetch.questions)
                fetch.learn(found, marked)
                self.access.learn([len(row.envelope) for row in found.rows.values()])
            except StoreUnavailableError as error:
                unavailable = error
                fetch.trust(self.access.remembered)
            except BaseException:  # cancelled, above all: a mark left behind would keep others from promoting
                await self._settle([*fetch.settles, *(Step(SETTLE_READ, mark.key) for mark in marks)], token)
                raise
            if unavailable is not None:
                fetch.settles += [Step(SETTLE_READ, mark.key) for mark in marks]
        self.access.remember({address: Seen(b"", version) for address, version in fetch.watermarks.items()})
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
        prefix = await self.access.open()

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
        prefix = await self.access.open()

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
        token = new_token()
        cells: Iterable[Cell] = [_NO_CELL] * len(keys)  # not committed, or nobody knows: the next reader asks the store
        marks = [Step(MARK_WRITE, key) for key in keys]
        spared = self._front.kept_waiting(since)
        standing = _keys_done(marks, await self._front.apply(marks, token, since=since))
        journal = [] if self._local else [key for key in keys if key not in standing]
        if journal:
            self.access.doubts.add(keys[key] for key in journal)
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
                doubts = self.access.doubts.add(keys[key] for key in journal)
                if settled is None:
                    self._recorder.add("unmarked", len(journal))
                else:  # whatever was there is not there any more
                    self.access.doubts.settle(doubts)
            self.on_use(bool(journal) and settled is None)
        committed()

    @property
    def clock(self) -> StoreClock:
        """What this process knows of the store's."""
        return self.access.clock

    @property
    def breakers(self) -> Mapping[str, State]:
        """Whether the tiers are asked, by kind of exchange."""
        states: dict[str, State] = {kind: breaker.state for kind, breaker in self._front.breakers.items()}
        return {**states, "store_read": self._store.breaker.state}

    @property
    def doubtful(self) -> bool:
        """Whether there is something of which the front has not been told, as far as this process knows."""
        return bool(self.access.doubts)


def _weigh_changes(changes: Sequence[Change]) -> int:
    return sum(len(change.envelope) for change in changes)


def _keys_done(steps: Sequence[Step], done: Sequence[bool] | None) -> set[bytes]:
    return {step.key for step, mine in zip(steps, done or (), strict=False) if mine}
