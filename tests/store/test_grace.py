"""Rows that outlive their expiry for a while, for those who ask for stale ones alone."""

from __future__ import annotations

from tests.store.conftest import A, Clock, Emptied, Place, digest, entry
from tiered_cache._tiers import Row


async def test_in_its_time_of_grace_a_row_is_there_for_those_who_take_stale_ones(place: Place, clock: Clock) -> None:
    store = await place.ready(clock=clock)
    (version,) = await store.write([entry("a", ttl=1000, name=b"sa")._replace(grace=500)])
    asked = [digest("a")]
    assert (await store.read(asked, [])).rows == {digest("a"): Row(version, 1000, b"envelope")}
    assert (await store.read(asked, [], stale=True)).rows == {digest("a"): Row(version, 1000, b"envelope")}
    clock.now += 1.2
    assert (await store.read(asked, [])).rows == {}
    assert await store.names(A, b"", b"", 9) == []
    assert (await store.read(asked, [], stale=True)).rows == {digest("a"): Row(version, -200, b"envelope")}
    assert await store.reclaim(10, Emptied()) == 0
    clock.now += 0.3
    assert (await store.read(asked, [], stale=True)).rows == {}
    assert await store.reclaim(10, Emptied()) == 1


async def test_without_grace_an_expired_row_is_gone_for_everybody(place: Place, clock: Clock) -> None:
    store = await place.ready(clock=clock)
    await store.write([entry("a", ttl=1000), entry("b")._replace(grace=500)])
    clock.now += 1
    assert set((await store.read([digest("a"), digest("b")], [], stale=True)).rows) == {digest("b")}


async def test_writing_again_ends_the_grace_of_the_row_before(place: Place, clock: Clock) -> None:
    store = await place.ready(clock=clock)
    await store.write([entry("a", ttl=1000)._replace(grace=5000)])
    await store.write([entry("a", b"new", ttl=1000)])
    clock.now += 1
    assert (await store.read([digest("a")], [], stale=True)).rows == {}
