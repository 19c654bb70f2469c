"""Both tiers within reach: guarded, opened once, and what this process knows of them. Every way begins here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from math import inf
from time import monotonic

from . import _portal as portal
from ._batch import Limits
from ._clock import StoreClock
from ._doubts import Doubts
from ._errors import StoreUnavailableError
from ._fork import forget_after_fork
from ._guard import GuardedFront, GuardedStore
from ._keys import Key, front_key
from ._look import Look, Seen
from ._options import Options
from ._stats import Recorder
from ._tiers import Front, Store

_REMEMBERED_WATERMARKS = 65_536

# What an entry is taken to weigh before the first has been seen.
_TYPICAL_BYTES = 2048


class Access:
    """Belongs to no event loop."""

    def __init__(self, front: Front, store: Store, options: Options, recorder: Recorder, clock: StoreClock) -> None:
        self.front: GuardedFront = GuardedFront(front, options, recorder)
        self.store: GuardedStore = GuardedStore(store, options, recorder)
        self.options: Options = options
        self.recorder: Recorder = recorder
        self.clock: StoreClock = clock
        #: What this process changed, and the front may not have been told.
        self.doubts: Doubts = Doubts()
        #: What begins this store's keys in the front; None before it has been opened.
        self.prefix: bytes | None = None
        #: The watermarks seen last, by address.
        self.remembered: dict[bytes, Seen] = {}
        self.limits: Limits = Limits(options.batch_items, options.batch_bytes, options.batches_in_flight)
        self.typical: int = _TYPICAL_BYTES
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: what was being opened is opened in the parent alone."""
        self._opening: Future[bytes] | None = None
        self._refusal: tuple[float, StoreUnavailableError] | None = None  # and until when it stands

    async def open(self) -> bytes:
        """Makes the store ready on the first call; returns what begins this store's keys in the front.

        The store's own identity is part of it, so two stores never share a cell, whatever they and the front are named.
        """
        if self.prefix is None:
            began = monotonic()
            try:
                identity = await self.store.setup(create=self.options.setup != "never")
            except StoreUnavailableError as error:
                # As long as this took, readers are spared another attempt: all of them would be held up all the time.
                self._refusal = (2 * monotonic() - began, error)
                raise
            self.prefix = f"{self.options.prefix}:{identity}:".encode()
        return self.prefix

    async def opened(self) -> bytes:
        """The same for readers, who do not try again what has just been tried."""
        if self.prefix is None and self._refusal is not None and monotonic() < self._refusal[0]:
            raise self._refusal[1].with_traceback(None)
        return await self.open()

    def open_soon(self) -> None:
        if self._opening is None or self._opening.done():
            self._opening = portal.submit(self.open)

    async def front_key(self, key: Key) -> bytes:
        """Where the front keeps the cell of a key."""
        return front_key(await self.opened(), key.digest)

    async def ask_front(self, look: Look, since: float = inf) -> bool:
        """Whether it answered. Of what was doubtful before it did, or is now, nothing is believed."""
        before = self.doubts.among(look.digests)
        cells = await self.front.get(look.front_keys, since)
        after = self.doubts.among(look.digests)
        if before is None or after is None:
            cells = None
        look.see(cells, {*(before or ()), *(after or ())} if before or after else ())
        return cells is not None

    def remember(self, watermarks: Mapping[bytes, Seen]) -> None:
        """Keeps the watermarks seen last: for reads while the store is away, and to know a cell again."""
        if len(self.remembered) > _REMEMBERED_WATERMARKS:
            self.remembered.clear()
        for address, seen in watermarks.items():
            before = self.remembered.get(address)
            if before is None or before.version < seen.version or (before.version == seen.version and seen.cell):
                self.remembered[address] = seen

    def weigh(self, questions: Sequence[object]) -> int:
        """What reads will probably bring, so that their batches can be limited before their answers are seen."""
        return len(questions) * self.typical

    def learn(self, sizes: Sequence[int]) -> None:
        if sizes:
            self.typical = max(1, (3 * self.typical + sum(sizes) // len(sizes)) // 4)
