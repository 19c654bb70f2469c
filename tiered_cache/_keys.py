"""Names become digests here, and nowhere else.

Two different (namespace, key) pairs never share a digest: every part is preceded by its length, and a key by its kind
(`str` or `bytes`), so no character that a part may hold can move the border between two parts. Digests have one size,
so a prompt of any length, with any character in it, fits every index of every database.

A namespace also has an address: the 16-byte digests of its levels one after another, outermost first. All that lies
below a namespace is one range of addresses. Addresses decide what a clear covers, never what a read returns: that is
for the 32-byte digest of the entry alone.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from ._errors import ConfigurationError

LEVEL_BYTES: Final = 16
MAX_DEPTH: Final = 64

Path = tuple[str, ...]


class Key(NamedTuple):
    """One key of one namespace, ready for both tiers."""

    digest: bytes
    name: bytes
    scope: Scope


class Scope:
    """A namespace, hashed once: its address, those of its ancestors, and the start of its keys' digests."""

    __slots__ = ("_seed", "addresses", "path", "watermarks")

    path: Path
    #: The addresses of the root, of every ancestor, and (last) of this namespace itself.
    addresses: tuple[bytes, ...]
    #: By address, in the same order: the digests under which the front keeps their watermarks.
    watermarks: dict[bytes, bytes]

    def __init__(self, path: Path) -> None:
        if len(path) > MAX_DEPTH:
            raise ConfigurationError(f"a namespace has at most {MAX_DEPTH} levels, not {len(path)}")
        levels = blake2b(digest_size=LEVEL_BYTES, person=b"level")
        addresses = [b""]
        for segment in path:
            levels.update(framed(encode_text(segment)))
            addresses.append(addresses[-1] + levels.digest())
        self.path = path
        self.addresses = tuple(addresses)
        self.watermarks = {a: blake2b(a, digest_size=32, person=b"watermark").digest() for a in addresses}
        self._seed = blake2b(len(path).to_bytes(8, "big"), digest_size=32, person=b"entry")
        for segment in path:
            self._seed.update(framed(encode_text(segment)))

    @property
    def address(self) -> bytes:
        return self.addresses[-1]

    @property
    def watermark(self) -> bytes:
        """The digest of its own."""
        return self.watermarks[self.addresses[-1]]

    def key(self, key: str | bytes) -> Key:
        """Raises ConfigurationError for a key that is neither `str` nor `bytes`."""
        if isinstance(key, str):
            name = b"s" + encode_text(key)
        elif isinstance(key, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without a type checker)
            name = b"b" + key
        else:
            raise ConfigurationError(f"a key is a str or bytes, not {type(key).__name__}")
        hasher = self._seed.copy()
        hasher.update(name)  # the last part: its length is that of what is left
        return Key(hasher.digest(), name, self)


def decode_name(name: bytes) -> str | bytes:
    """The key that `Scope.key` was given. Raises ValueError for bytes that it did not make."""
    if name[:1] == b"s":
        return name[1:].decode("utf-8", "surrogatepass")
    if name[:1] == b"b":
        return name[1:]
    raise ValueError("not the name of a key")


def scope_of(path: Path) -> Scope:
    """The scope of a path, from a bounded memo: adapters ask for the same few again and again."""
    for segment in path:
        if not isinstance(segment, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
            raise ConfigurationError(f"a namespace is made of str segments, not {type(segment).__name__}")
    return _remembered(path)


@lru_cache(maxsize=4096)
def _remembered(path: Path) -> Scope:
    return Scope(path)


def encode_text(text: str) -> bytes:
    """UTF-8 in which lone surrogates, which models and file names do produce, keep their identity."""
    return text.encode("utf-8", "surrogatepass")


def framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


def front_key(prefix: bytes, digest: bytes) -> bytes:
    """A printable key, so that what a Redis holds can be matched with the rows of a table by eye."""
    return prefix + hexlify(digest)


def front_keys(prefix: bytes, digests: Iterable[bytes]) -> list[bytes]:
    return [front_key(prefix, digest) for digest in digests]


def range_end(address: bytes) -> bytes | None:
    """The first address after everything at or below `address`; None where there is none (the root)."""
    kept = address.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None
