"""P7 for stored bytes: what is not exactly what was written is nothing, never an error and never a wrong value."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiered_cache._cells import (
    HEAD_BYTES,
    Value,
    codec_of,
    dated,
    intact,
    is_mark,
    is_writers_mark,
    made_at,
    payload_of,
    read_value,
    seal,
    value_cell,
)

DIGEST = bytes(range(32))
VERSION = 2**53 + 7
TOKEN = b"0123456789abcdef"

# As written by format 1. These must be readable by every later release.
GOLDEN_ENVELOPE = bytes.fromhex("01011ab63f0a017b22616e73776572223a34327d")
GOLDEN_EMPTY = bytes.fromhex("0104297e5a7b")
GOLDEN_CELL = bytes.fromhex("560020000000000007866e405e01011ab63f0a017b22616e73776572223a34327d")
GOLDEN_WATERMARK = bytes.fromhex("56000000000000000749d379c2")
# As written by the first release with format 3, and by one without.
MADE = 1_700_000_000_123
GOLDEN_DATED = bytes.fromhex("030197697c6f0000018bcfe5687b017b22616e73776572223a34327d")

digests = st.binary(min_size=32, max_size=32)
payloads = st.binary(max_size=200)
versions = st.integers(1, 2**63 - 1)
codecs = st.integers(1, 255)
dates = st.none() | st.integers(0, 2**64 - 1)


def opened(digest: bytes, codec: int, envelope: bytes) -> bytes | None:
    return payload_of(envelope, codec) if intact(digest, envelope) else None


def test_golden_envelopes_and_cells_are_read_for_ever() -> None:
    assert opened(DIGEST, 1, GOLDEN_ENVELOPE) == b'\x01{"answer":42}'
    assert opened(DIGEST, 4, GOLDEN_EMPTY) == b""
    assert read_value(DIGEST, GOLDEN_CELL) == Value(VERSION, GOLDEN_ENVELOPE)
    assert read_value(DIGEST, GOLDEN_WATERMARK) == Value(7, b"")


def test_a_golden_envelope_with_a_date_is_read_for_ever_and_still_written_so() -> None:
    assert opened(DIGEST, 1, GOLDEN_DATED) == b'\x01{"answer":42}'
    assert made_at(GOLDEN_DATED) == MADE
    assert seal(DIGEST, 1, b'\x01{"answer":42}', made=MADE) == GOLDEN_DATED
    assert made_at(GOLDEN_ENVELOPE) is None
    assert dated(DIGEST, GOLDEN_ENVELOPE, MADE) == GOLDEN_DATED == dated(DIGEST, GOLDEN_DATED, 7)


def test_golden_envelopes_and_cells_are_still_written_so() -> None:
    """Other processes of this release, and of the one before, read what this one writes."""
    assert seal(DIGEST, 1, b'\x01{"answer":42}') == GOLDEN_ENVELOPE
    assert seal(DIGEST, 4, b"") == GOLDEN_EMPTY
    assert value_cell(DIGEST, VERSION, GOLDEN_ENVELOPE) == GOLDEN_CELL
    assert value_cell(DIGEST, 7, b"") == GOLDEN_WATERMARK


@given(digests, codecs, payloads, versions, dates)
def test_what_was_sealed_comes_out(digest: bytes, codec: int, payload: bytes, version: int, made: int | None) -> None:
    envelope = seal(digest, codec, payload, made=made)
    assert intact(digest, envelope)
    assert made_at(envelope) == made
    assert codec_of(envelope) == codec
    assert payload_of(envelope, codec) == payload
    assert read_value(digest, value_cell(digest, version, envelope)) == Value(version, envelope)


@given(digests, codecs, payloads, dates, st.data())
def test_a_flipped_bit_anywhere_makes_an_envelope_unreadable(
    digest: bytes, codec: int, payload: bytes, made: int | None, data: st.DataObject
) -> None:
    envelope = bytearray(seal(digest, codec, payload, made=made))
    bit = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    assert not intact(digest, bytes(envelope))
    assert opened(digest, codec, bytes(envelope)) is None


@given(digests, versions, payloads, st.integers(0, 13 * 8 - 1))
def test_a_flipped_bit_in_its_head_makes_a_cell_unreadable(
    digest: bytes, version: int, payload: bytes, bit: int
) -> None:
    cell = bytearray(value_cell(digest, version, payload))
    cell[bit // 8] ^= 1 << bit % 8
    assert read_value(digest, bytes(cell)) is None


@given(digests, codecs, payloads, versions, dates, st.data())
def test_truncated_is_unreadable(
    digest: bytes, codec: int, payload: bytes, version: int, made: int | None, data: st.DataObject
) -> None:
    envelope = seal(digest, codec, payload, made=made)
    assert opened(digest, codec, envelope[: data.draw(st.integers(0, len(envelope) - 1))]) is None
    cell = value_cell(digest, version, envelope)
    found = read_value(digest, cell[: data.draw(st.integers(0, len(cell) - 1))])
    assert found is None or opened(digest, codec, found.envelope) is None


@given(digests, codecs, payloads, dates, st.binary(min_size=1, max_size=8))
def test_lengthened_is_unreadable(digest: bytes, codec: int, payload: bytes, made: int | None, more: bytes) -> None:
    assert opened(digest, codec, seal(digest, codec, payload, made=made) + more) is None


@given(digests, codecs, payloads, st.integers(0, 2**62), st.sampled_from([1, 2, 3, 4]))
def test_a_date_is_never_taken_for_a_part_of_the_value_nor_the_reverse(
    digest: bytes,
    codec: int,
    payload: bytes,
    made: int,
    format: int,  # noqa: A002
) -> None:
    envelope = seal(digest, codec, payload, made=made)
    other = bytes((format,)) + envelope[1:]
    assert opened(digest, codec, other) == (payload if format == 3 else None)


@given(digests, digests, codecs, payloads, versions)
def test_a_cell_of_another_key_is_unreadable(
    digest: bytes, other: bytes, codec: int, payload: bytes, version: int
) -> None:
    envelope = seal(digest, codec, payload)
    if digest != other:
        assert opened(other, codec, envelope) is None
        assert read_value(other, value_cell(digest, version, envelope)) is None


@given(digests, codecs, codecs, payloads)
def test_an_envelope_of_another_codec_is_unreadable(digest: bytes, codec: int, other: int, payload: bytes) -> None:
    assert opened(digest, other, seal(digest, codec, payload)) == (payload if codec == other else None)


@given(st.binary(max_size=60))
@example(b"")
@example(b"V")
@example(b"R" + TOKEN)
@example(b"W0" + TOKEN)
@example(b"V" + b"\0" * 12)
@example(b"\x01\x01" + b"\0" * 4)
@example(b"\x02\x01" + b"\0" * 40)
@example(b"\x80\x04\x95pickle")
def test_random_bytes_are_nothing_and_no_error(junk: bytes) -> None:
    assert opened(DIGEST, 1, junk) is None
    assert not intact(DIGEST, junk)
    found = read_value(DIGEST, junk)
    assert found is None or opened(DIGEST, 1, found.envelope) is None
    is_mark(junk)


def test_an_envelope_of_a_later_format_is_nothing_rather_than_misread() -> None:
    head = bytes((5, 1))
    body = GOLDEN_ENVELOPE[6:]
    later = head + crc32(body, crc32(head, crc32(DIGEST))).to_bytes(4, "big") + body
    assert opened(DIGEST, 1, later) is None
    cut = bytes((3, 1)) + crc32(b"short", crc32(bytes((3, 1)), crc32(DIGEST))).to_bytes(4, "big") + b"short"
    assert opened(DIGEST, 1, cut) is None


@given(digests, versions, versions, payloads)
def test_heads_tell_the_versions_of_a_key_apart(digest: bytes, version: int, other: int, payload: bytes) -> None:
    heads = [value_cell(digest, v, payload)[:HEAD_BYTES] for v in (version, other)]
    assert (heads[0] == heads[1]) is (version == other)


@pytest.mark.parametrize(
    ("cell", "mark", "writers"),
    [
        (b"R" + TOKEN, True, False),
        (b"W0" + TOKEN, True, True),
        (b"W1" + TOKEN, True, True),
        (b"W1" + TOKEN * 5, True, True),
        (b"R" + TOKEN[:-1], False, False),
        (b"R" + TOKEN + b"x", False, False),
        (b"R" + TOKEN * 2, False, False),
        (b"W0", False, False),
        (b"W1", False, False),
        (b"W0" + TOKEN[:-1], False, False),
        (b"W0" + TOKEN + b"x", False, False),
        (b"r" + TOKEN, False, False),
        (b"", False, False),
        (GOLDEN_CELL, False, False),
    ],
)
def test_only_a_whole_mark_is_a_mark(cell: bytes, mark: bool, writers: bool) -> None:
    assert is_mark(cell) is mark
    assert is_writers_mark(cell) is writers
    assert not (mark and read_value(DIGEST, cell))
