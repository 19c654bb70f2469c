"""The Redis front, in one room with all that knows redis-py."""

from ._front import RedisFront
from ._tracking import Changed, Tracking

__all__ = ["Changed", "RedisFront", "Tracking"]
