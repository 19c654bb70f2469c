"""How embeddings become a payload: numbers of 4 bytes where that changes none of them, of 8 otherwise."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final, cast

from tiered_cache._errors import CorruptValueError, UnsupportedValueError

_FLOAT32: Final = b"\x01"
_FLOAT64: Final = b"\x02"
_TYPECODES: Final = {_FLOAT32: "f", _FLOAT64: "d"}


class VectorCodec:
    """Lists of finite floats, never empty, behind one byte that names the size of a number. Little-endian."""

    id: int = 5

    def encode(self, value: Any) -> bytes:
        """Raises UnsupportedValueError for what is no such list."""
        kind = cast("type[object]", type(value))
        numbers = cast("list[float]", value)
        if kind is not list or any(type(number) is not float for number in numbers):
            raise UnsupportedValueError(
                f"a vector is a list of floats; this is none, or has others in it: {kind.__name__}"
            )
        if why := odd(numbers):
            raise UnsupportedValueError(why)
        small = array("f", numbers)
        if small.tolist() == numbers:
            return _FLOAT32 + _swapped(small).tobytes()
        return _FLOAT64 + _swapped(array("d", numbers)).tobytes()

    def decode(self, payload: bytes) -> list[float]:
        """A new list. Raises for anything that `encode` did not make."""
        typecode = _TYPECODES.get(payload[:1])
        if typecode is None:
            raise CorruptValueError("not a payload of this codec")
        numbers: array[float] = array(typecode)
        numbers.frombytes(payload[1:])  # a ValueError where the last number is cut
        found: list[float] = _swapped(numbers).tolist()
        if odd(found):
            raise CorruptValueError("not an embedding")
        return found


def odd(numbers: list[float]) -> str | None:
    """Why this is not stored: a model that returned it would, most likely, return something else the next time."""
    if not numbers:
        return "an embedding without numbers is not stored"
    return None if all(map(isfinite, numbers)) else "an embedding with NaN or infinity in it is not stored"


def numbers_of(vector: Iterable[Any]) -> list[float]:
    """What a model returned as a vector (arrays of numpy and the like too), as a new list of floats.

    Raises TypeError for what does not hold numbers.
    """
    if isinstance(vector, (bytes, bytearray)):  # which an array would take for its memory
        raise TypeError("bytes")
    return array("d", vector).tolist()


def rounded(numbers: list[float]) -> list[float]:
    """To numbers of 4 bytes; as they are where one of them is too large for that."""
    small = array("f", numbers).tolist()
    return small if odd(small) == odd(numbers) else numbers


def _swapped(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
