"""What every store promises, whatever it runs on."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from tests.store.conftest import SHARED, SQLITE, A, B, Clock, Emptied, Place, Statements, digest, entry
from tiered_cache._sql import SqlStore, _statements
from tiered_cache._tiers import Entry, Row

EVERY_BYTE = bytes(range(256))


async def test_what_was_written_is_read_back_with_its_version(store: SqlStore) -> None:
    versions = await store.write([entry("a", b"one"), entry("b", b"two")])
    found = await store.read([digest("b"), digest("a"), digest("nobody")], [])
    assert found.rows == {digest("a"): Row(versions[0], None, b"one"), digest("b"): Row(versions[1], None, b"two")}
    assert found.watermarks == {}


async def test_versions_come_in_the_order_of_the_entries(store: SqlStore) -> None:
    entries = [entry(i, b"%d" % i) for i in range(20)]
    versions = await store.write(entries)
    found = await store.read([e.digest for e in entries], [])
    assert [found.rows[e.digest].version for e in entries] == versions
    assert [found.rows[e.digest].envelope for e in entries] == [e.envelope for e in entries]
    assert len(set(versions)) == 20
    assert all(0 < version < 2**63 for version in versions)


async def test_writing_again_replaces_everything_about_a_row(place: Place, clock: Clock) -> None:
    store = await place.ready(clock=clock)
    await store.write([entry("a", b"old", ttl=1000, name=b"sold")])
    await store.write([entry("a", b"new", address=B)])
    assert (await store.read([digest("a")], [])).rows[digest("a")][1:] == (None, b"new")
    assert await store.names(A, b"", b"", 10) == []
    await store.write([entry("a", b"newer", ttl=5, name=b"snew")])
    assert (await store.read([digest("a")], [])).rows[digest("a")][1:] == (5, b"newer")
    assert await store.names(A, b"", b"", 10) == [(digest("a"), b"snew")]


@pytest.mark.parametrize("size", [0, 1, 256, 8_000, 1 << 20, 20 << 20])
async def test_envelopes_of_any_size_and_content_come_back(store: SqlStore, size: int) -> None:
    envelope = (EVERY_BYTE * (size // 256 + 1))[:size]
    await store.write([entry("a", envelope)])
    assert (await store.read([digest("a")], [])).rows[digest("a")].envelope == envelope


async def test_keys_and_names_may_hold_every_byte(store: SqlStore) -> None:
    address = (b"\x00" * 8 + b"\xff" * 8) * 64
    keys = [b"\x00" * 32, b"\xff" * 32, EVERY_BYTE[:32], b"%_'\"\\" * 6 + b"\x00\n"]
    name = b"s" + EVERY_BYTE * 4096
    await store.write([Entry(key, address, key, name=name) for key in keys])
    assert {key: row.envelope for key, row in (await store.read(keys, [])).rows.items()} == {k: k for k in keys}
    assert await store.names(address, name, b"", 9) == [(key, name) for key in sorted(keys)]
    version = await store.clear(address)
    assert (await store.read([], [address])).watermarks == {address: version}


async def test_nothing_asked_is_nothing_found(store: SqlStore) -> None:
    assert await store.read([], []) == ({}, {})
    assert await store.write([]) == []
    await store.delete([])


async def test_more_keys_than_fit_one_list_are_read_written_and_deleted(store: SqlStore) -> None:
    entries = [entry(i) for i in range(2000)]
    addresses = [b"%016d" % i for i in range(1000)]
    versions = await store.write(entries)
    cleared = {address: await store.clear(address) for address in addresses[::100]}
    found = await store.read([e.digest for e in entries], addresses)
    assert [found.rows[e.digest].version for e in entries] == versions
    assert found.watermarks == cleared
    await store.delete([e.digest for e in entries[1:]])
    assert list((await store.read([e.digest for e in entries], [])).rows) == [entries[0].digest]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_read_in_several_statements_sees_one_moment(place: Place) -> None:
    """Somebody deletes and clears everything between two of them."""
    store, other = await place.ready(), place.admin()
    entries = [entry(i) for i in range(2000)]
    await store.write(entries)

    def meddle(statement: str) -> None:
        if seen.texts.count(statement) == 1 and "UNION" in statement:
            with other.begin() as conn:
                conn.exec_driver_sql("DELETE FROM tiered_cache_entry")
                conn.exec_driver_sql("INSERT INTO tiered_cache_watermark (address, version) VALUES (x'', 99999)")

    seen = Statements()
    seen.before = meddle
    with seen:
        found = await store.read([e.digest for e in entries], [b""])
    assert len(found.rows) == 2000
    assert found.watermarks == {}
    found = await store.read([e.digest for e in entries], [b""])
    assert found == ({}, {b"": 99999})


@pytest.mark.parametrize("place", [kind for kind in SQLITE if kind != "memory"], indirect=True)
async def test_reading_leaves_no_transaction_behind_that_would_stop_a_writer(place: Place) -> None:
    store = await place.ready()
    await store.write([entry(i) for i in range(3)])
    await store.read([digest(i) for i in range(3000)], [])
    engine = create_engine(place.url, connect_args={"timeout": 0})
    with engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM tiered_cache_entry")
    engine.dispose()


async def test_deleting_removes_rows_and_minds_no_absent_ones(store: SqlStore) -> None:
    await store.write([entry("a"), entry("b"), entry("c")])
    await store.delete([digest("c"), digest("nobody"), digest("a")])
    await store.delete([digest("a")])
    found = await store.read([digest(x) for x in "abc"], [])
    assert list(found.rows) == [digest("b")]


async def test_a_clear_leaves_a_watermark_and_touches_no_entry(store: SqlStore) -> None:
    (before,) = await store.write([entry("a")])
    version = await store.clear(A)
    (after,) = await store.write([entry("b")])
    assert before < version < after
    found = await store.read([digest("a"), digest("b")], [A, b"", B])
    assert {row.version for row in found.rows.values()} == {before, after}
    assert found.watermarks == {A: version}
    again, root = await store.clear(A), await store.clear(b"")
    assert version < again < root
    assert (await store.read([], [b"", A, B])).watermarks == {A: again, b"": root}


async def test_an_entry_expires_by_the_clock_of_the_store(place: Place, clock: Clock) -> None:
    store = await place.ready(clock=clock)
    await store.write([entry("brief", ttl=1500), entry("long", ttl=60_000), entry("ever")])
    keys = [digest(x) for x in ("brief", "long", "ever")]

    async def left() -> list[int | None]:
        rows = (await store.read(keys, [])).rows
        return [rows[key].left if key in rows else -1 for key in keys]

    assert await left() == [1500, 60_000, None]
    clock.now += 1.499
    assert await left() == [1, 58_501, None]
    clock.now += 0.001
    assert await left() == [-1, 58_500, None]


async def test_without_an_injected_clock_the_database_counts(store: SqlStore) -> None:
    await store.write([entry("a", ttl=100_000), entry("b", ttl=1)])
    found = await store.read([digest("a")], [])
    left = found.rows[digest("a")].left
    assert left is not None
    assert 40_000 < left <= 100_000
    while (await store.read([digest("b")], [])).rows:
        pass  # a millisecond


async def test_names_are_listed_page_by_page_without_gap_or_repeat(store: SqlStore) -> None:
    entries = [entry(i, name=b"sname-%d" % i) for i in range(25)]
    await store.write([*entries, entry("no name"), entry("elsewhere", address=B, name=b"sname-99")])
    pages: list[list[tuple[bytes, bytes]]] = []
    after = b""
    while page := await store.names(A, b"sname-", after, 10):
        pages.append(list(page))
        after = page[-1][0]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [row for page in pages for row in page] == sorted((e.digest, e.name) for e in entries)


async def test_names_few_and_far_between_are_found(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statements, "_PAGE_ROWS", 10)
    entries = [entry(i, name=b"srare" if i % 40 == 0 else b"sname") for i in range(200)]
    await store.write([*entries, *(entry((i, "nameless")) for i in range(50))])
    rare = sorted(e.digest for e in entries if e.name == b"srare")
    assert await store.names(A, b"srare", b"", 3) == [(key, b"srare") for key in rare[:3]]
    assert await store.names(A, b"srare", rare[2], 100) == [(key, b"srare") for key in rare[3:]]
    assert await store.names(A, b"srare", rare[-1], 100) == []


async def test_names_are_chosen_by_their_beginning_literally(store: SqlStore) -> None:
    names = [b"s", b"sab", b"sa%", b"sa_b", b"s\x00", b"bab", b"sA"]
    await store.write([entry(name, name=name) for name in names])

    async def listed(prefix: bytes) -> set[bytes]:
        return {name for _, name in await store.names(A, prefix, b"", 100)}

    assert await listed(b"") == set(names)
    assert await listed(b"sa") == {b"sab", b"sa%", b"sa_b"}
    assert await listed(b"sa%") == {b"sa%"}
    assert await listed(b"sa_") == {b"sa_b"}
    assert await listed(b"s\x00") == {b"s\x00"}
    assert await listed(b"sabc") == set()


async def test_names_leave_out_what_expired_or_was_cleared_here_or_above(place: Place, clock: Clock) -> None:
    store = await place.ready(clock=clock)
    deep = A + B
    await store.write([entry("a", address=deep, name=b"sa"), entry("b", address=deep, name=b"sb", ttl=1000)])

    async def listed() -> list[bytes]:
        return sorted(name for _, name in await store.names(deep, b"s", b"", 100))

    assert await listed() == [b"sa", b"sb"]
    clock.now += 1
    assert await listed() == [b"sa"]
    await store.clear(A + A)
    await store.clear(deep + A)
    await store.clear(B)
    assert await listed() == [b"sa"]
    for above in (b"", A, deep):
        await store.clear(above)
        assert await listed() == []
        await store.write([entry("a", address=deep, name=b"sa")])
        assert await listed() == [b"sa"]


async def test_erasing_removes_all_below_the_watermark_and_nothing_else(store: SqlStore) -> None:
    inside = [entry("a"), entry("b", address=A + B), entry("c", address=A + b"\xff" * 16)]
    beside = [entry("d", address=B), entry("e", address=b""), entry("f", address=b"@" * 16)]
    emptied = Emptied()
    assert await store.erase(A, 10, emptied) == 0
    await store.write([*inside, *beside])
    assert await store.erase(A, 10, emptied) == 0
    await store.clear(A)
    await store.write([entry("a"), entry("later")])
    assert [await store.erase(A, 1, emptied) for _ in range(3)] == [1, 1, 0]
    assert sorted(emptied.digests) == sorted([digest("b"), digest("c")])
    left = (await store.read([digest(x) for x in ("a", "b", "c", "d", "e", "f", "later")], [])).rows
    assert set(left) == {digest(x) for x in ("a", "d", "e", "f", "later")}


async def test_erasing_the_root_and_the_last_of_all_addresses(store: SqlStore) -> None:
    last = b"\xff" * 16
    await store.write([entry("a", address=last), entry("b", address=last + B), entry("c")])
    await store.clear(last)
    emptied = Emptied()
    assert await store.erase(last, 10, emptied) == 2
    assert set(emptied.digests) == {digest("a"), digest("b")}
    await store.clear(b"")
    assert await store.erase(b"", 10, emptied) == 1
    assert emptied.digests[2:] == [digest("c")]


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_two_stores_see_one_another_at_once(place: Place) -> None:
    one, other = await place.ready(), await place.ready()
    (version,) = await one.write([entry("a", b"1")])
    assert (await other.read([digest("a")], [])).rows == {digest("a"): Row(version, None, b"1")}
    (newer,) = await other.write([entry("a", b"2")])
    assert newer > version
    assert (await one.read([digest("a")], [])).rows == {digest("a"): Row(newer, None, b"2")}
