"""Zstandard frames, for payloads that are worth the time. The one module that knows the optional library."""

from __future__ import annotations

import threading
from functools import cache
from importlib import import_module
from typing import Any, Final

from ._errors import require_extra

#: Larger payloads are not compressed, and no frame that claims to hold more is opened, whoever wrote it.
MOST_BYTES: Final = 64 * 1024 * 1024

_LEVEL: Final = 1  # a tenth less saved than by the default level, in half the time


class _Tools(threading.local):
    """Neither may be used by two threads at once, and making one takes longer than compressing a few kB."""

    def __init__(self) -> None:
        library: Any = _library()
        self.compressor: Final = library.ZstdCompressor(level=_LEVEL)
        self.decompressor: Final = library.ZstdDecompressor()


@cache
def _library() -> Any:
    try:
        return import_module("zstandard")
    except ImportError:
        return None


@cache
def _tools() -> _Tools:
    return _Tools()


def check_installed() -> None:
    """Raises MissingExtraError where the library is missing."""
    if _library() is None:
        raise require_extra("zstandard", "zstd")


def compressed(payload: bytes) -> bytes | None:
    """A frame that says how much it holds; None where it would not be smaller."""
    if len(payload) > MOST_BYTES:
        return None
    frame: bytes = _tools().compressor.compress(payload)
    return frame if len(frame) < len(payload) else None


def decompressed(frame: bytes) -> bytes | None:
    """None for what is no whole frame of a known and bearable size, and where the library is missing."""
    library = _library()
    if library is None:
        return None
    try:
        if not 0 <= library.frame_content_size(frame) <= MOST_BYTES:  # -1: the frame does not say
            return None
        return _tools().decompressor.decompress(frame, allow_extra_data=False)
    except library.ZstdError:
        return None
