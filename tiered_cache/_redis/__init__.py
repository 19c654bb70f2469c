"""The Redis front, in one room with all that knows redis-py."""

from ._front import RedisFront

__all__ = ["RedisFront"]
