"""Compressed envelopes: smaller, read by every process that has the library, and no way to fill its memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zlib import crc32

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles import DictStore
from tiered_cache import MISSING, ConfigurationError, MemoryFront, MissingExtraError, Options, RawCodec, TieredCache
from tiered_cache import _zstd as zstd
from tiered_cache._cells import dated, intact, made_at, payload_of, seal
from tiered_cache._options import options_from_env

DIGEST = bytes(range(32))
PAYLOAD = b'\x01"' + b"many words, many times; " * 100 + b'"'

# As written by the first release with format 2. It must be readable by every later one.
GOLDEN = bytes.fromhex(
    "02016f2892cf28b52ffd6063080d0100a801226d616e7920776f7264732c2074696d65733b22030040d9e901c0e26d5102"
)
GOLDEN_DATED = bytes.fromhex(
    "0401b0d337070000018bcfe5687b28b52ffd6063080d0100a801226d616e7920776f7264732c2074696d65733b22030040d9e901c0e26d5102"
)


def forged(frame: bytes) -> bytes:
    """What somebody who can write to a tier could put there: an intact envelope round any frame."""
    head = bytes((2, 1))
    return head + crc32(frame, crc32(head, crc32(DIGEST))).to_bytes(4, "big") + frame


@pytest.fixture
def without_the_library(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    zstd._library.cache_clear()
    zstd._tools.cache_clear()
    yield
    zstd._library.cache_clear()
    zstd._tools.cache_clear()


def test_a_compressed_envelope_of_an_earlier_release_is_readable() -> None:
    assert intact(DIGEST, GOLDEN)
    assert payload_of(GOLDEN, 1) == PAYLOAD
    assert made_at(GOLDEN) is None
    assert intact(DIGEST, GOLDEN_DATED)
    assert payload_of(GOLDEN_DATED, 1) == PAYLOAD
    assert made_at(GOLDEN_DATED) == 1_700_000_000_123
    assert dated(DIGEST, GOLDEN, 1_700_000_000_123) == GOLDEN_DATED


@given(st.binary(max_size=500), st.integers(1, 255), st.integers(0, 600))
def test_what_was_sealed_comes_out_however_it_was_sealed(payload: bytes, codec: int, above: int) -> None:
    envelope = seal(DIGEST, codec, payload * 3, above)
    assert intact(DIGEST, envelope)
    assert payload_of(envelope, codec) == payload * 3
    assert payload_of(envelope, codec % 255 + 1) is None
    assert len(envelope) <= len(seal(DIGEST, codec, payload * 3))
    if len(payload) * 3 <= above:
        assert envelope == seal(DIGEST, codec, payload * 3)


def test_only_what_gets_smaller_is_compressed() -> None:
    noise = os.urandom(5000)
    assert seal(DIGEST, 1, noise, 0) == seal(DIGEST, 1, noise)
    assert len(seal(DIGEST, 1, PAYLOAD, len(PAYLOAD) - 1)) < len(PAYLOAD) / 10
    assert seal(DIGEST, 1, PAYLOAD, len(PAYLOAD)) == seal(DIGEST, 1, PAYLOAD)


def test_what_could_not_be_read_is_not_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "MOST_BYTES", len(PAYLOAD))
    assert payload_of(seal(DIGEST, 1, PAYLOAD, 0), 1) == PAYLOAD
    assert seal(DIGEST, 1, PAYLOAD + b"x", 0) == seal(DIGEST, 1, PAYLOAD + b"x")


def test_a_frame_that_claims_more_than_is_bearable_is_not_opened() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(zstd.MOST_BYTES + 1))
    assert len(bomb) < 10_000
    assert intact(DIGEST, forged(bomb))
    assert payload_of(forged(bomb), 1) is None
    most = zstandard.ZstdCompressor().compress(bytes(zstd.MOST_BYTES))
    assert payload_of(forged(most), 1) == bytes(zstd.MOST_BYTES)


def liar() -> bytes:
    """A frame that claims 4 kB and holds 40 kB."""
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(40_000)))
    parameters = zstandard.get_frame_parameters(frame)
    assert parameters.content_size == 40_000
    at = bytes(frame).index((40_000 - 256).to_bytes(2, "little"), 4)
    frame[at : at + 2] = (4_000 - 256).to_bytes(2, "little")
    assert zstandard.frame_content_size(frame) == 4_000
    return bytes(frame)


FRAME = zstandard.ZstdCompressor(level=1).compress(PAYLOAD)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no frame at all",
        FRAME[:-1],
        FRAME[:4],
        FRAME + b"x",
        FRAME + FRAME,
        liar(),
        zstandard.ZstdCompressor(write_content_size=False).compress(PAYLOAD),
        zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(PAYLOAD)).compress(PAYLOAD),
    ],
    ids=[
        "nothing",
        "text",
        "cut off",
        "a magic number",
        "more after it",
        "two",
        "a liar",
        "of unknown size",
        "of a dictionary",
    ],
)
def test_what_is_no_whole_frame_of_known_size_is_nothing(frame: bytes) -> None:
    assert payload_of(forged(frame), 1) is None


@given(st.data())
def test_damage_is_seen_before_anything_is_decompressed(data: st.DataObject) -> None:
    envelope = bytearray(seal(DIGEST, 1, PAYLOAD, 0))
    bit = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    assert not intact(DIGEST, bytes(envelope))
    assert not intact(bytes(32), GOLDEN)


def test_threads_do_not_share_what_compresses() -> None:
    def there_and_back(number: int) -> bool:
        payload = number.to_bytes(2, "big") * 20_000
        return payload_of(seal(DIGEST, 1, payload, 0), 1) == payload

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(there_and_back, range(400)))


def cache_over(front: MemoryFront, store: DictStore, **options: Any) -> TieredCache:
    return TieredCache(front, store, **options)


async def test_large_values_are_small_in_both_tiers_and_whoever_reads_needs_no_option() -> None:
    store = DictStore()
    async with cache_over(MemoryFront(), store, compress_above=1000) as writer:
        await writer.set("large", "words " * 1000)
        await writer.set("small", "words")
        assert await writer.get("large") == "words " * 1000
    sizes = sorted(len(kept.entry.envelope) for kept in store.rows.values())
    assert sizes[0] == len('\x01"words"') + 14
    assert sizes[1] < 200
    async with cache_over(MemoryFront(), store) as reader:
        assert await reader.get("large") == "words " * 1000  # promoted
        assert await reader.get("large") == "words " * 1000
        assert reader.stats().hits_store == reader.stats().hits_front == 1


async def test_bytes_are_compressed_like_anything_else() -> None:
    store = DictStore()
    async with cache_over(MemoryFront(), store, compress_above=100) as cache:
        raw = cache.namespace("raw", codec=RawCodec())
        await raw.set("k", bytes(10_000))
        assert await raw.get("k") == bytes(10_000)
    ((kept),) = store.rows.values()
    assert len(kept.entry.envelope) < 100


async def test_without_the_library_a_compressed_value_is_a_counted_miss(request: pytest.FixtureRequest) -> None:
    store = DictStore()
    async with cache_over(MemoryFront(), store, compress_above=100) as writer:
        await writer.set("k", "words " * 100)
    request.getfixturevalue("without_the_library")
    async with cache_over(MemoryFront(), store) as reader:
        assert await reader.get("k", MISSING) is MISSING
        assert (reader.stats().corrupt, reader.stats().misses) == (1, 1)
        await reader.set("k", "words " * 100)
        assert await reader.get("k") == "words " * 100


@pytest.mark.usefixtures("without_the_library")
def test_the_option_names_the_extra_that_it_needs() -> None:
    with pytest.raises(MissingExtraError, match=r"tiered-cache\[zstd\]"):
        Options(compress_above=1000)


def test_the_option_is_a_number_of_bytes_or_none() -> None:
    for odd in (-1, 1.5, "1000", True, b""):
        with pytest.raises(ConfigurationError, match="compress_above"):
            Options.of({"compress_above": odd})
    assert Options().compress_above is None
    assert options_from_env({"TIERED_CACHE_COMPRESS_ABOVE": "20000"}) == {"compress_above": 20000}
    assert options_from_env({"TIERED_CACHE_COMPRESS_ABOVE": "none"}) == {"compress_above": None}
