"""A front that fails, hangs, damages, forgets and delivers late."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from tiered_cache._cells import TOKEN_BYTES, is_writers_mark
from tiered_cache._errors import FrontUnavailableError
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Step
from tiered_cache._tiers import Front

from ._faults import Exchange, Faulty, When

_NAMES: Final = {
    MARK_READ: "mark_read",
    MARK_WRITE: "mark_write",
    SETTLE_READ: "settle_read",
    SETTLE_WRITE: "settle_write",
}


class Packet:
    """A call that its sender has given up, and that arrives all the same, later."""

    def __init__(self) -> None:
        self._work: Callable[[], Awaitable[object]] | None = None

    def send(self, work: Callable[[], Awaitable[object]]) -> None:
        """What the sender does."""
        self._work = work

    async def deliver(self) -> None:
        """Now it arrives. Whatever it is answered, nobody hears it."""
        assert self._work is not None, "nothing was sent"
        await self._work()


class FaultyFront(Faulty):
    """A front round another, to which anything can happen on the way. It closes the inner one with itself.

    Its calls are "get", "mark_read", "mark_write", "settle_read" and "settle_write" ("apply" where steps of several
    kinds are in one call).

        front = FaultyFront(MemoryFront())
        front.fail("mark_write")                 # the next mark never arrives
        front.fail("settle_write", "after")      # the next settle is carried out, and does not say so
        front.drop("settle_write")               # the cells of the next settle have vanished before it comes
        packet = front.postpone("mark_write")    # the next mark seems lost; `await packet.deliver()` later
        front.at_random(0.1, seed=7)             # from now on every tenth call meets some fault
        front.down = True                        # nothing answers any more

    It needs nothing of an event loop: round an in-process front it works on trio as well.
    """

    def __init__(self, inner: Front) -> None:
        super().__init__()
        #: The front that answers in the end.
        self.inner = inner

    def drop(self, name: str, when: When = "before") -> None:
        """The cells of the call's keys vanish, values and marks, before it arrives or after it was carried out."""

        async def drop(exchange: Exchange) -> None:
            await self.vanish(exchange.keys)

        self._plan(name, when, drop)

    def postpone(self, name: str) -> Packet:
        """To its sender the call seems lost. It arrives when the packet is delivered."""
        packet = Packet()

        async def postpone(exchange: Exchange) -> None:
            packet.send(exchange.work)
            raise FrontUnavailableError("no answer in time, as planned")

        self._plan(name, "before", postpone)
        return packet

    async def vanish(self, keys: Sequence[bytes]) -> None:
        """Drops these cells now, values and marks, as a server does that runs out of memory."""
        for key in keys:
            (cell,) = await self.inner.get([key])
            while cell is not None:
                for token in _owners(cell):
                    await self.inner.apply([Step(SETTLE_WRITE, key)], token, 60_000)
                (cell,) = await self.inner.get([key])

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return await self._pass_on("get", keys, partial(self.inner.get, keys))

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> Sequence[bool]:
        names = {_NAMES[step.op] for step in steps}
        name = names.pop() if len(names) == 1 else "apply"
        return await self._pass_on(
            name, [step.key for step in steps], partial(self.inner.apply, steps, token, mark_ttl)
        )

    async def aclose(self) -> None:
        """Closes the inner front, whatever is planned."""
        await self.inner.aclose()

    def _unavailable(self, message: str, when: When) -> FrontUnavailableError:
        return FrontUnavailableError(message)

    def _damaged(self, answer: Any) -> Any:
        return [self._damage(cell) if isinstance(cell, bytes) else cell for cell in answer]

    async def _drop(self, keys: Sequence[bytes]) -> None:
        await self.vanish(keys)


def _owners(cell: bytes) -> list[bytes]:
    """Whose settling, without a value, leaves nothing of this cell."""
    if not is_writers_mark(cell):
        return [os.urandom(TOKEN_BYTES)]  # a stranger's: whatever he finds is older than his change
    return [cell[i : i + TOKEN_BYTES] for i in range(2, len(cell), TOKEN_BYTES)]
