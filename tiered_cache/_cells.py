"""The bytes that are stored: the envelope round a value, the same in both tiers, and the cell round it in the front.

    envelope   format (1)  codec (1)  check (4)  payload (format 1), or a Zstandard frame that holds it (format 2)
               the same with  made (8)  before the payload (format 3) or the frame (format 4)
    cell       "V"  version (8)  check (4)  envelope          a value, or a namespace's watermark (an empty envelope)
               "R"  token (16)                                a reader's mark
               "W"  "0" or "1" (contended)  token (16) ...    the marks of one or more writers

Numbers are big-endian. `made` is when the value was made, in milliseconds since 1970 by the store's clock: a moment
that had come by then, and may be a little earlier. Formats 1 and 2 do not say.

Both checks are CRC-32 and cover the digest of the key as well, so a value that was damaged, cut short, or copied to
another key is unreadable instead of wrong. Every format ever released stays readable.
"""

from __future__ import annotations

import os
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
_DATED: Final = 2  # a format with a date is that much higher than the same without
_LAST: Final = _COMPRESSED + _DATED
_ENVELOPE_BYTES: Final = 6
_DATED_BYTES: Final = 14
_CELL_BYTES: Final = 13


class Value(NamedTuple):
    """What a value cell holds."""

    version: int
    envelope: bytes


def seal(
    digest: bytes, codec: int, payload: bytes, compress_above: int | None = None, made: int | None = None
) -> bytes:
    """Puts a payload into an envelope that only the entry with this digest can open.

    One of more than `compress_above` bytes is compressed, where that makes it smaller. `made` is when the value was
    made, where that is known.
    """
    frame = None if compress_above is None or len(payload) <= compress_above else compressed(payload)
    format = _PLAIN if frame is None else _COMPRESSED  # noqa: A001
    return _sealed(digest, format, codec, payload if frame is None else frame, made)


def _sealed(digest: bytes, format: int, codec: int, body: bytes, made: int | None) -> bytes:  # noqa: A002
    dated, date = (0, b"") if made is None else (_DATED, made.to_bytes(8, "big"))
    head = bytes((format + dated, codec))
    check = crc32(body, crc32(date, crc32(head, crc32(digest))))
    return b"".join((head, check.to_bytes(4, "big"), date, body))


def dated(digest: bytes, envelope: bytes, made: int) -> bytes:
    """An intact envelope with the moment at which its value was made, unless it says one already."""
    if envelope[0] > _DATED:
        return envelope
    return _sealed(digest, envelope[0], envelope[1], envelope[_ENVELOPE_BYTES:], made)


def intact(digest: bytes, envelope: bytes) -> bool:
    """Whether this is the whole, undamaged envelope of the entry with this digest, in a format that is known."""
    size = len(envelope)
    if size < _ENVELOPE_BYTES or not _PLAIN <= envelope[0] <= _LAST or (size < _DATED_BYTES and envelope[0] > _DATED):
        return False
    check = crc32(memoryview(envelope)[_ENVELOPE_BYTES:], crc32(envelope[:2], crc32(digest)))
    return envelope[2:_ENVELOPE_BYTES] == check.to_bytes(4, "big")


def codec_of(envelope: bytes) -> int:
    """Which codec wrote an intact envelope."""
    return envelope[1]


def made_at(envelope: bytes) -> int | None:
    """When the value in an intact envelope was made; None where it does not say."""
    return int.from_bytes(envelope[_ENVELOPE_BYTES:_DATED_BYTES], "big") if envelope[0] > _DATED else None


def payload_of(envelope: bytes, codec: int) -> bytes | None:
    """What an intact envelope holds; None where another codec wrote it, or where it cannot be decompressed."""
    if envelope[1] != codec:
        return None
    format = envelope[0]  # noqa: A001
    body = envelope[_DATED_BYTES if format > _DATED else _ENVELOPE_BYTES :]
    return decompressed(body) if format in (_COMPRESSED, _LAST) else body


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


def is_value(cell: bytes) -> bool:
    """Whether this is a value or a watermark, if it is intact, and no mark."""
    return cell[:1] == VALUE


def is_watermark(cell: bytes) -> bool:
    """Whether this is a watermark, if it is intact: a value with an empty envelope, which no entry has."""
    return cell[:1] == VALUE and len(cell) == _CELL_BYTES


def is_mark(cell: bytes) -> bool:
    """Whether somebody is between the store and this cell."""
    if cell[:1] == READER:
        return len(cell) == 1 + TOKEN_BYTES
    return is_writers_mark(cell)


def is_writers_mark(cell: bytes) -> bool:
    return cell[:1] == WRITERS and len(cell) >= 2 + TOKEN_BYTES and (len(cell) - 2) % TOKEN_BYTES == 0


def new_token() -> bytes:
    """Of one batch: by it a mark is known to be one's own."""
    return os.urandom(TOKEN_BYTES)
