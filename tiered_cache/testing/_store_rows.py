"""The part of the store's suite about reading, writing and listing."""

from __future__ import annotations

from typing import Final

from tiered_cache._tiers import Entry, Row

from ._entries import A, B, content, digest, entry
from ._store_base import StoreTests

_EVERY_BYTE: Final = bytes(range(256))
_PATIENCE_SECONDS: Final = 100


class RowSuite(StoreTests):
    """Rows, watermarks and names. Part of `StoreSuite`."""

    async def test_setting_up_again_changes_nothing_and_gives_the_same_identity(self) -> None:
        async with self.store() as store:
            identity = await store.setup(create=True)
            (version,) = await store.write([entry("a")])
            assert await store.setup(create=True) == await store.setup(create=False) == identity
            assert (await store.read([digest("a")], [])).rows[digest("a")].version == version
            assert identity.isalnum()
            assert len(identity) < 65

    async def test_what_was_written_is_read_back_with_its_version(self) -> None:
        async with self.ready() as store:
            versions = await store.write([entry("a", b"one"), entry("b", b"two")])
            found = await store.read([digest("b"), digest("a"), digest("nobody")], [])
            assert found.rows == {
                digest("a"): Row(versions[0], None, b"one"),
                digest("b"): Row(versions[1], None, b"two"),
            }
            assert found.watermarks == {}

    async def test_versions_come_in_the_order_of_the_entries(self) -> None:
        async with self.ready() as store:
            entries = [entry(i, b"%d" % i) for i in range(20)]
            versions = list(await store.write(entries))
            found = await store.read([e.digest for e in entries], [])
            assert [found.rows[e.digest].version for e in entries] == versions
            assert [found.rows[e.digest].envelope for e in entries] == [e.envelope for e in entries]
            assert len(set(versions)) == 20
            assert all(0 < version < 2**63 for version in versions)

    async def test_writing_again_replaces_everything_about_a_row(self) -> None:
        async with self.ready() as store:
            await store.write([entry("a", b"old", ttl=600_000, name=b"sold")])
            await store.write([entry("a", b"new", address=B)])
            assert (await store.read([digest("a")], [])).rows[digest("a")][1:] == (None, b"new")
            assert list(await store.names(A, b"", b"", 10)) == []
            await store.write([entry("a", b"newer", ttl=300_000, name=b"snew")])
            _, left, envelope = (await store.read([digest("a")], [])).rows[digest("a")]
            assert envelope == b"newer"
            assert left is not None
            assert left == 300_000 if self.clock else 200_000 < left <= 300_000
            assert list(await store.names(A, b"", b"", 10)) == [(digest("a"), b"snew")]

    async def test_envelopes_of_any_size_and_content_come_back(self) -> None:
        async with self.ready() as store:
            for size in (0, 1, 256, 8_000, 1 << 20, 20 << 20):
                envelope = (_EVERY_BYTE * (size // 256 + 1))[:size]
                await store.write([entry("a", envelope)])
                assert await content(store, "a") == envelope, f"{size} bytes"

    async def test_keys_and_names_may_hold_every_byte(self) -> None:
        async with self.ready() as store:
            address = (b"\x00" * 8 + b"\xff" * 8) * 64
            keys = [b"\x00" * 32, b"\xff" * 32, _EVERY_BYTE[:32], b"%_'\"\\" * 6 + b"\x00\n"]
            name = b"s" + _EVERY_BYTE * 4096
            await store.write([Entry(key, address, key, name=name) for key in keys])
            rows = (await store.read(keys, [])).rows
            assert {key: row.envelope for key, row in rows.items()} == {k: k for k in keys}
            assert list(await store.names(address, name, b"", 9)) == [(key, name) for key in sorted(keys)]
            version = await store.clear(address)
            assert (await store.read([], [address])).watermarks == {address: version}

    async def test_nothing_asked_is_nothing_found(self) -> None:
        async with self.ready() as store:
            assert await store.read([], []) == ({}, {})
            assert list(await store.write([])) == []
            await store.delete([])

    async def test_more_keys_than_fit_one_list_are_read_written_and_deleted(self) -> None:
        async with self.ready() as store:
            entries = [entry(i) for i in range(2000)]
            addresses = [b"%016d" % i for i in range(1000)]
            versions = list(await store.write(entries))
            cleared = {address: await store.clear(address) for address in addresses[::100]}
            found = await store.read([e.digest for e in entries], addresses)
            assert [found.rows[e.digest].version for e in entries] == versions
            assert found.watermarks == cleared
            await store.delete([e.digest for e in entries[1:]])
            assert list((await store.read([e.digest for e in entries], [])).rows) == [entries[0].digest]

    async def test_deleting_removes_rows_and_minds_no_absent_ones(self) -> None:
        async with self.ready() as store:
            await store.write([entry("a"), entry("b"), entry("c")])
            await store.delete([digest("c"), digest("nobody"), digest("a")])
            await store.delete([digest("a")])
            found = await store.read([digest(x) for x in "abc"], [])
            assert list(found.rows) == [digest("b")]

    async def test_a_clear_leaves_a_watermark_and_touches_no_entry(self) -> None:
        async with self.ready() as store:
            (before,) = await store.write([entry("a")])
            version = await store.clear(A)
            (after,) = await store.write([entry("b")])
            assert before < version < after
            found = await store.read([digest("a"), digest("b")], [A, b"", B])
            assert {row.version for row in found.rows.values()} >= {after}
            assert found.watermarks == {A: version}
            again, root = await store.clear(A), await store.clear(b"")
            assert version < again < root
            assert (await store.read([], [b"", A, B])).watermarks == {A: again, b"": root}

    async def test_another_store_sees_at_once_what_was_committed(self) -> None:
        async with self.ready() as one, self.another(one) as other:
            await other.setup(create=True)
            (version,) = await one.write([entry("a", b"1")])
            assert (await other.read([digest("a")], [])).rows == {digest("a"): Row(version, None, b"1")}
            (newer,) = await other.write([entry("a", b"2")])
            assert newer > version
            assert (await one.read([digest("a")], [])).rows == {digest("a"): Row(newer, None, b"2")}
            assert await other.clear(b"") == (await one.read([], [b""])).watermarks[b""]

    # --- expiry -------------------------------------------------------------------------------------------------------

    async def test_an_entry_expires_by_the_clock_of_the_store(self) -> None:
        async with self.ready() as store:
            clock = self.clock
            if clock is None:
                return
            await store.write([entry("brief", ttl=1500), entry("long", ttl=60_000), entry("ever")])
            keys = [digest(x) for x in ("brief", "long", "ever")]
            for seconds, expected in (
                (0, [1500, 60_000, None]),
                (1.499, [1, 58_501, None]),
                (0.001, [-1, 58_500, None]),
            ):
                clock.advance(seconds)
                rows = (await store.read(keys, [])).rows
                assert [rows[key].left if key in rows else -1 for key in keys] == expected

    async def test_time_passes_and_is_counted_in_milliseconds(self) -> None:
        """By whatever clock the store goes."""
        async with self.ready() as store:
            await store.write([entry("a", ttl=100_000), entry("b", ttl=1)])
            left = (await store.read([digest("a")], [])).rows[digest("a")].left
            assert left is not None
            assert 40_000 < left <= 100_000
            await self.expired(store, "b")

    async def test_its_time_is_that_by_which_entries_expire(self) -> None:
        async with self.ready() as store:
            if self.clock is not None:
                before = await store.now()
                assert before == round(self.clock() * 1000)
                self.clock.advance(1.5)
                assert await store.now() == before + 1500
            before = await store.now()
            await store.write([entry("a", ttl=100_000)])
            written = await store.now()
            left = (await store.read([digest("a")], [])).rows[digest("a")].left
            read = await store.now()
            assert left is not None
            assert before + 100_000 - read <= left <= 100_000
            assert before <= written <= read < before + 1000 * _PATIENCE_SECONDS

    async def test_a_row_can_be_looked_at_until_it_is_removed(self) -> None:
        async with self.ready() as store:
            entries = [entry("a", b"1"), entry("b", b"2", ttl=1), entry("c", b"3", ttl=1)._replace(grace=600_000)]
            versions = await store.write(entries)
            await self.expired(store, "b", "c")
            await store.clear(A)
            keys = [digest(x) for x in ("c", "a", "nobody", "b")]
            rows = await store.peek(keys)
            assert {key: row[::2] for key, row in rows.items()} == {
                each.digest: (version, each.envelope) for each, version in zip(entries, versions, strict=True)
            }
            assert rows[digest("a")].left is None
            for name in "bc":
                left = rows[digest(name)].left
                assert left is not None
                assert -1000 * _PATIENCE_SECONDS < left <= 0
            await store.delete([digest("b")])
            assert digest("b") not in await store.peek(keys)
            assert await store.peek([]) == {}

    async def test_more_rows_than_fit_one_list_are_looked_at(self) -> None:
        async with self.ready() as store:
            entries = [entry(i) for i in range(2000)]
            versions = await store.write(entries)
            rows = await store.peek([e.digest for e in entries])
            assert [rows[e.digest].version for e in entries] == list(versions)

    # --- names --------------------------------------------------------------------------------------------------------

    async def test_names_are_listed_page_by_page_without_gap_or_repeat(self) -> None:
        async with self.ready() as store:
            entries = [entry(i, name=b"sname-%d" % i) for i in range(25)]
            await store.write([*entries, entry("no name"), entry("elsewhere", address=B, name=b"sname-99")])
            pages: list[list[tuple[bytes, bytes]]] = []
            after = b""
            while page := await store.names(A, b"sname-", after, 10):
                pages.append(list(page))
                after = page[-1][0]
            assert all(len(page) <= 10 for page in pages)
            assert [row for page in pages for row in page] == sorted((e.digest, e.name) for e in entries)

    async def test_names_few_and_far_between_are_found(self) -> None:
        async with self.ready() as store:
            entries = [entry(i, name=b"srare" if i % 400 == 0 else b"sname") for i in range(2000)]
            await store.write([*entries, *(entry((i, "nameless")) for i in range(50))])
            rare = sorted(e.digest for e in entries if e.name == b"srare")
            assert list(await store.names(A, b"srare", b"", 3)) == [(key, b"srare") for key in rare[:3]]
            assert list(await store.names(A, b"srare", rare[2], 100)) == [(key, b"srare") for key in rare[3:]]
            assert list(await store.names(A, b"srare", rare[-1], 100)) == []

    async def test_names_are_chosen_by_their_beginning_literally(self) -> None:
        names = [b"s", b"sab", b"sa%", b"sa_b", b"s\x00", b"bab", b"sA"]
        chosen = {b"": set(names), b"sa": {b"sab", b"sa%", b"sa_b"}, b"sa%": {b"sa%"}, b"sa_": {b"sa_b"}}
        async with self.ready() as store:
            await store.write([entry(name, name=name) for name in names])
            for prefix, expected in {**chosen, b"s\x00": {b"s\x00"}, b"sabc": set[bytes]()}.items():
                assert {name for _, name in await store.names(A, prefix, b"", 100)} == expected, prefix

    async def test_names_leave_out_what_was_cleared_here_or_above(self) -> None:
        deep = A + B
        async with self.ready() as store:
            await store.write([entry("a", address=deep, name=b"sa")])
            for elsewhere in (A + A, deep + A, B):
                await store.clear(elsewhere)
            assert list(await store.names(deep, b"s", b"", 9)) == [(digest("a"), b"sa")]
            for above in (b"", A, deep):
                await store.clear(above)
                assert list(await store.names(deep, b"s", b"", 9)) == [], above
                await store.write([entry("a", address=deep, name=b"sa")])
                assert list(await store.names(deep, b"s", b"", 9)) == [(digest("a"), b"sa")]

    async def test_names_leave_out_what_expired(self) -> None:
        async with self.ready() as store:
            await store.write([entry("a", name=b"sa"), entry("b", name=b"sb", ttl=1)])
            await self.expired(store, "b")
            assert list(await store.names(A, b"s", b"", 9)) == [(digest("a"), b"sa")]
