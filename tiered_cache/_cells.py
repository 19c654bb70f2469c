"""The bytes that are stored: the envelope round a value, the same in both tiers, and the cell round it in the front.

    envelope   format (1)  codec (1)  check (4)  payload (format 1), or a Zstandard frame that holds it (format 2)
    cell       "V"  version (8)  check (4)  envelope          a value, or a namespace's watermark (an empty envelope)
               "R"  token (16)                                a reader's mark
               "W"  "0" or "1" (contended)  token (16) ...    the marks of one or more writers

Numbers are big-endian. Both checks are CRC-32 and cover the digest of the key as well, so a value that was damaged,
cut short, or copied to another key is unreadable instead of wrong. Every format ever released stays readable.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

from ._zstd import compressed, decompressed

VALUE: Final = b"V"
READER: Final = b"R"
WRITERS: Final = b"W"
TOKEN_BYTES: Final = 16
HEAD_BYTES: Final = 9  # kind and version: tells one value of a key from every other

_PLAIN: Final = 1
_COMPRESSED: Final = 2
_ENVELOPE_BYTES: Final = 6
_CELL_BYTES: Final = 13


class Value(NamedTuple):
    """What a value cell holds."""

    version: int
    envelope: bytes


def seal(digest: bytes, codec: int, payload: bytes, compress_above: int | None = None) -> bytes:
    """Puts a payload into an envelope that only the entry with this digest can open.

    One of more than `compress_above` bytes is compressed, where that makes it smaller.
    """
    frame = None if compress_above is None or len(payload) <= compress_above else compressed(payload)
    head = bytes((_PLAIN if frame is None else _COMPRESSED, codec))
    body = payload if frame is None else frame
    return head + crc32(body, crc32(head, crc32(digest))).to_bytes(4, "big") + body


def intact(digest: bytes, envelope: bytes) -> bool:
    """Whether this is the whole, undamaged envelope of the entry with this digest, in a format that is known."""
    if len(envelope) < _ENVELOPE_BYTES or envelope[0] not in (_PLAIN, _COMPRESSED):
        return False
    check = crc32(memoryview(envelope)[_ENVELOPE_BYTES:], crc32(envelope[:2], crc32(digest)))
    return envelope[2:_ENVELOPE_BYTES] == check.to_bytes(4, "big")


def payload_of(envelope: bytes, codec: int) -> bytes | None:
    """What an intact envelope holds; None where another codec wrote it, or where it cannot be decompressed."""
    if envelope[1] != codec:
        return None
    body = envelope[_ENVELOPE_BYTES:]
    return body if envelope[0] == _PLAIN else decompressed(body)


def value_cell(digest: bytes, version: int, envelope: bytes) -> bytes:
    head = VALUE + version.to_bytes(8, "big")
    return head + crc32(head, crc32(digest)).to_bytes(4, "big") + envelope


def read_value(digest: bytes, cell: bytes) -> Value | None:
    """The value in a cell; None for marks and for anything that `value_cell` did not make for this digest."""
    if len(cell) < _CELL_BYTES or cell[:1] != VALUE:
        return None
    head = cell[:HEAD_BYTES]
    if cell[HEAD_BYTES:_CELL_BYTES] != crc32(head, crc32(digest)).to_bytes(4, "big"):
        return None
    return Value(int.from_bytes(head[1:], "big"), cell[_CELL_BYTES:])


def is_mark(cell: bytes) -> bool:
    """Whether somebody is between the store and this cell."""
    if cell[:1] == READER:
        return len(cell) == 1 + TOKEN_BYTES
    return is_writers_mark(cell)


def is_writers_mark(cell: bytes) -> bool:
    return cell[:1] == WRITERS and len(cell) >= 2 + TOKEN_BYTES and (len(cell) - 2) % TOKEN_BYTES == 0
