"""The Redis front, in one room with all that knows redis-py."""

from ._front import RedisFront
from ._tracking import Answered, Changed, Tracking

__all__ = ["Answered", "Changed", "RedisFront", "Tracking"]
