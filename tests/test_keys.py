"""P5: two different (namespace, key) pairs never meet, whatever characters they hold."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiered_cache._errors import ConfigurationError
from tiered_cache._keys import LEVEL_BYTES, MAX_DEPTH, Scope, decode_name, front_key, range_end, scope_of

NASTY = [
    "",
    ":",
    ",",
    "/",
    "|",
    "*",
    "?",
    "[",
    "\0",
    "\x01",
    "\ud800",
    "\udfff",
    "é",
    "e\u0301",
    "s",
    "b",
    "a",
    "a:",
    ":a",
]
LONG = "prompt " * 150_000  # 1 MB

DIGEST = "340925b5fce5497859ee6fdd0c2aaabd7b6ca181840f480426b587209c999be3"
ADDRESS = "c5fbc4be9c3015edc16c2e187c58b21b9370a54e82cca4b7312c469239994075"
WATERMARK = "58b099e0af8c01f0a69595251ed0cc971aec4124d30f4bf87f6466c85ed4de2e"
ROOT_WATERMARK = "0f18ef7a9c151c42679067245fd33f98ed890722fca9815159fc7f1077a3281e"

text = st.one_of(st.sampled_from(NASTY), st.text(st.characters(), max_size=6))
paths = st.lists(text, max_size=4).map(tuple)
keys = st.one_of(text, st.binary(max_size=6))
addresses = st.binary(max_size=40).map(lambda b: b[: len(b) // 4 * 4])


def digest(path: tuple[str, ...], key: str | bytes) -> bytes:
    return Scope(path).key(key).digest


def test_all_pairs_of_nasty_paths_and_keys_have_digests_of_their_own() -> None:
    all_paths: list[tuple[str, ...]] = [(), *((a,) for a in NASTY), *((a, b) for a in NASTY for b in NASTY)]
    all_keys: list[str | bytes] = [*NASTY, *(name.encode("utf-8", "surrogatepass") for name in NASTY)]
    pairs = {(path, key): digest(path, key) for path in all_paths for key in all_keys}
    assert len(pairs) == len(all_paths) * len(all_keys)
    assert len(set(pairs.values())) == len(pairs)


@given(paths, keys, paths, keys)
@example(("a", "b"), "c", ("a",), "bc")
@example(("a",), "", (), "a")
@example(("", ""), "", ("",), "")
@example((), "s", (), b"s")
def test_different_pairs_differ_and_equal_pairs_agree(
    path: tuple[str, ...], key: str | bytes, other_path: tuple[str, ...], other_key: str | bytes
) -> None:
    same = (path, type(key), key) == (other_path, type(other_key), other_key)
    assert (digest(path, key) == digest(other_path, other_key)) is same


@given(st.lists(text, min_size=1, max_size=5), st.data())
def test_moving_a_border_makes_another_pair(parts: list[str], data: st.DataObject) -> None:
    """The same characters in the same order, cut elsewhere, are another path and key."""
    whole = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=len(parts) - 1, max_size=len(parts) - 1)))
    moved = [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])]
    same = moved == parts
    assert (digest(tuple(moved[:-1]), moved[-1]) == digest(tuple(parts[:-1]), parts[-1])) is same


def test_a_segment_that_imitates_a_length_prefix_stays_a_segment() -> None:
    framed = "a" + "\0" * 7 + "\x01" + "b"
    assert digest((framed,), "k") != digest(("a", "b"), "k")
    assert Scope((framed,)).address != Scope(("a", "b")).address


def test_the_key_of_a_child_is_not_a_key_of_its_parent() -> None:
    assert digest(("a",), "k") not in {
        digest((), "k"),
        digest((), "ak"),
        digest(("a", ""), "k"),
        digest(("a", "k"), ""),
    }


def test_a_megabyte_is_a_key_like_any_other() -> None:
    assert len(digest((LONG,), LONG)) == 32
    assert digest((), LONG) != digest((), LONG[:-1])
    assert digest((LONG,), "") != digest((), LONG)
    assert decode_name(Scope(()).key(LONG).name) == LONG


@given(keys)
def test_names_come_back_as_the_keys_they_were(key: str | bytes) -> None:
    back = decode_name(Scope(("any",)).key(key).name)
    assert back == key
    assert type(back) is type(key)


@pytest.mark.parametrize("name", [b"", b"x", b"\0s", b"s\xff\xfe"])
def test_what_is_no_name_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match=r"name|decode"):
        decode_name(name)


@given(paths, paths)
def test_a_range_covers_a_namespace_with_all_below_it_and_nothing_else(
    path: tuple[str, ...], other: tuple[str, ...]
) -> None:
    start = Scope(path).address
    end = range_end(start)
    for candidate in (other, path + other, path[:-1], path[:-1] + other, ()):
        address = Scope(candidate).address
        covered = start <= address and (end is None or address < end)
        assert covered is (candidate[: len(path)] == path)


@given(addresses, st.binary(max_size=40))
@example(b"\xff" * 16, b"")
@example(b"\xff" * 16, b"\xff" * 16)
@example(b"\x00" + b"\xff" * 15, b"\x01")
@example(b"a\xff\xff", b"b")
def test_the_end_of_a_range_is_right_for_every_address(address: bytes, other: bytes) -> None:
    end = range_end(address)
    assert (address <= other and (end is None or other < end)) is other.startswith(address)


def test_the_root_and_an_address_of_ones_have_no_end() -> None:
    assert range_end(b"") is None
    assert range_end(b"\xff" * LEVEL_BYTES) is None
    assert range_end(b"\x00" * 16) == b"\x00" * 15 + b"\x01"
    assert range_end(b"a\xff") == b"b"


@given(paths)
def test_a_scope_knows_the_addresses_of_all_its_ancestors(path: tuple[str, ...]) -> None:
    scope = Scope(path)
    assert list(scope.addresses) == [Scope(path[:depth]).address for depth in range(len(path) + 1)]
    assert [len(address) for address in scope.addresses] == [LEVEL_BYTES * depth for depth in range(len(path) + 1)]
    assert list(scope.watermarks.values()) == [Scope(path[:depth]).watermark for depth in range(len(path) + 1)]


@given(st.lists(st.tuples(paths, keys), max_size=5))
def test_watermarks_and_entries_never_share_a_front_key(pairs: list[tuple[tuple[str, ...], str | bytes]]) -> None:
    scopes = [Scope(path) for path, _ in pairs]
    entries = {scope.key(key).digest for scope, (_, key) in zip(scopes, pairs, strict=True)}
    assert entries.isdisjoint(watermark for scope in scopes for watermark in scope.watermarks.values())


def test_front_keys_are_printable_and_as_distinct_as_digests() -> None:
    assert front_key(b"p:", bytes(range(32))) == b"p:" + bytes(range(32)).hex().encode()


def test_what_digests_and_addresses_were_they_remain() -> None:
    """Rows of earlier releases are found only as long as these stay."""
    key = Scope(("tenant-1", "answers")).key("q")
    assert key.digest.hex() == DIGEST
    assert key.scope.address.hex() == ADDRESS
    assert key.scope.watermark.hex() == WATERMARK
    assert Scope(()).watermark.hex() == ROOT_WATERMARK


@pytest.mark.parametrize("key", [1, None, ("a",), bytearray(b"a"), 1.5])
def test_a_key_of_another_type_is_a_clear_error(key: object) -> None:
    with pytest.raises(ConfigurationError, match=type(key).__name__):
        Scope(()).key(cast("Any", key))


@pytest.mark.parametrize("segment", [1, None, b"bytes", ("a",), ["a"]])
def test_a_segment_of_another_type_is_a_clear_error(segment: object) -> None:
    with pytest.raises(ConfigurationError, match=type(segment).__name__):
        scope_of((cast("Any", segment),))


def test_depth_is_bounded_and_the_bound_is_named() -> None:
    Scope(("x",) * MAX_DEPTH)
    with pytest.raises(ConfigurationError, match=str(MAX_DEPTH)):
        Scope(("x",) * (MAX_DEPTH + 1))


def test_scopes_are_remembered() -> None:
    assert scope_of(("a", "b")) is scope_of(("a", "b"))
