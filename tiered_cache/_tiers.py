"""The whole contract of a tier: what a front and a store must do, and nothing about when or why.

Drivers move bytes. They know no codec, no policy, no retry and no logging; all of that stands above this line. Both
are called from any event loop and any thread, several at once, and keep per loop whatever belongs to a loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ._rule import Step


class Front(Protocol):
    """A fast tier that may lose any cell at any time. Calls raise FrontUnavailableError where it cannot answer."""

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The cells of `keys` at one moment, in their order; None for those that hold nothing."""
        ...

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        """Takes each step by the rule (`_rule.apply`), each atomically; true where the step got its way.

        `mark_ttl` is in milliseconds. Every cell that is left has an expiry. No two steps of one call share a key.
        """
        ...

    async def aclose(self) -> None:
        """Releases what the front itself opened, on every loop. It may be used again afterwards."""
        ...


class Entry(NamedTuple):
    """A row to be written. `ttl` is in milliseconds; None never expires. `name` is kept where keys are to be listed.

    For `grace` milliseconds after it has expired, those who ask for stale rows are still given it.
    """

    digest: bytes
    address: bytes
    envelope: bytes
    ttl: int | None = None
    name: bytes | None = None
    grace: int = 0


class Row(NamedTuple):
    """A row that was found. `left`: milliseconds to its expiry by the store's clock; None never expires."""

    version: int
    left: int | None
    envelope: bytes


class Found(NamedTuple):
    """The answer to one read: rows by digest, watermarks by address, seen at one moment.

    Expired rows are not in it, cleared ones may be; an address never cleared has no watermark in it.
    """

    rows: Mapping[bytes, Row]
    watermarks: Mapping[bytes, int]


class Notice(NamedTuple):
    """A key of the front whose cell nobody could mark while an entry or a watermark changed. Newer ones go higher."""

    cell: bytes
    version: int


#: Empties the cells of rows that are about to be removed. Raises FrontUnavailableError where the front does not answer.
Emptying = Callable[[Sequence[bytes]], Awaitable[None]]


class Store(Protocol):
    """The durable tier, the truth. Every call raises StoreUnavailableError where it cannot answer.

    Versions are 64-bit, positive, shared by entries and watermarks, never reused, and increase per key and per address
    in the order of commits: they are taken once the row is locked.

    What changes anything takes a `journal`: keys of the front whose cells could not be marked. They are recorded in the
    same transaction, and stay until they are acknowledged. A key recorded again gets a new version.
    """

    async def setup(self, *, create: bool) -> str:
        """Makes the tables ready (or, with `create` false, checks them) and returns the identity of this store.

        The identity is a short random text recorded at creation: no other store has it, whatever it is named.
        Safe to run in many processes at once. Raises SchemaError for tables of a newer release or not of this package.
        """
        ...

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        """Rows and watermarks in one statement, from the primary, outside any transaction of the caller.

        With `stale`, expired rows in their time of grace as well; `left` is 0 or less for those.
        """
        ...

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        """Rows as they are, by digest: cleared and expired ones as well, as long as they were not removed.

        `left` is 0 or less for those that have expired, whether or not they are in their time of grace.
        """
        ...

    async def now(self) -> int:
        """What the store's clock shows, in milliseconds since 1970: the clock by which its entries expire."""
        ...

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        """Commits all entries (no two with one digest) in one transaction; returns their versions in their order."""
        ...

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        """Commits the removal of rows; absent ones are no error."""
        ...

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        """Commits a new watermark for an address and returns it. Touches no entry, however many there are."""
        ...

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        """At most `limit` of what was recorded and is not acknowledged, of keys that begin with `prefix`."""
        ...

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        """Removes these from the journal, unless they were recorded again since."""
        ...

    async def names(self, address: bytes, prefix: bytes, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """A page of valid (digest, name) at exactly this address, by digest, after the digest `after`; at the end none.

        Only entries written with a name that begins with `prefix`, and not those below a watermark of the address or
        of what is above it.
        """
        ...

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        """Removes at most `limit` expired or cleared rows, never one rewritten meanwhile; returns how many.

        Cleared ones are given to `empty` first, and stay where it raises. (Expired ones have no cell any more.)
        """
        ...

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        """Removes at most `limit` rows at or below an address that lie under its watermark; returns how many.

        They are given to `empty` first, and stay where it raises. Returns 0 only where none is left; waits for those
        that somebody has locked.
        """
        ...

    async def aclose(self) -> None:
        """Releases what the store itself opened, on every loop. It may be used again afterwards."""
        ...
