"""The Redis front: plain commands and one script, on Redis 6.2 or later and on Valkey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tiered_cache._rule import Step

from ._link import RedisLink
from ._script import SCRIPT, SCRIPT_ID
from ._tracking import Tracking, track

# A script blocks the server while it runs, and a request is held in its memory as a whole.
_STEPS_PER_SCRIPT: Final = 1000
_BYTES_PER_SCRIPT: Final = 8 * 1024 * 1024


class RedisFront:
    """A front in a Redis that all processes share.

    `source` is a URL (`redis://`, `rediss://`, `unix://`) or a ready-made redis-py client, sync or asyncio. Of a client
    only the configuration is used: connections are the front's own, at most `max_connections` for each event loop, and
    the client's are neither used nor closed. `timeout` bounds each exchange, connecting included, in seconds.

    Needs asyncio: on trio every call raises ConfigurationError.
    """

    def __init__(self, source: object, *, max_connections: int = 16, timeout: float = 0.1) -> None:
        self._link = RedisLink(source, max_connections=max_connections, timeout=timeout)

    def __repr__(self) -> str:
        return f"RedisFront({self._link.place})"

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        cells: list[bytes | None] = await self._link.run(b"MGET", *keys)
        return [cell or None for cell in cells]

    async def read(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        """The cells of `keys` with the milliseconds left to each, 0 or less where it is not known to have an expiry.

        The cells are of one moment, and what is left to them of a little later.
        """
        if not keys:
            return []
        cells, *left = await self._link.run_all([(b"MGET", *keys), *((b"PTTL", key) for key in keys)])
        return [(cell or None, ms) for cell, ms in zip(cells, left, strict=True)]

    async def track(self, prefix: bytes) -> Tracking:
        """Hears of changes, on a connection of its own that is the caller's to close. Raises FrontUnavailableError."""
        return await track(self._link, prefix)

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        done: list[bool] = []
        for batch in _batches(steps):
            keys = [step.key for step in batch]
            arguments = [token, b"%d" % mark_ttl]
            for step in batch:
                arguments += (step.op.encode(), step.arg, b"%d" % step.ttl)
            answers: list[int] = await self._link.run_script(SCRIPT, SCRIPT_ID, b"%d" % len(keys), *keys, *arguments)
            done += [answer == 1 for answer in answers]
        return done

    async def aclose(self) -> None:
        """Closes the connections that the front has opened, on every loop."""
        await self._link.aclose()


def _batches(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    start = size = 0
    for end, step in enumerate(steps):
        if end > start and (end - start == _STEPS_PER_SCRIPT or size + len(step.arg) > _BYTES_PER_SCRIPT):
            yield steps[start:end]
            start, size = end, 0
        size += len(step.arg)
    if start < len(steps):
        yield steps[start:]
