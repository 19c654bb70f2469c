"""Whether an answer is stored, and for how long, as the user's functions say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final, Literal

from langchain_core.outputs import Generation

from tiered_cache._errors import ConfigurationError
from tiered_cache._options import check_ttl
from tiered_cache._stats import Recorder
from tiered_cache._view import INHERIT, Inherit

from ._asked import Asked

ShouldCache = Callable[[Sequence[Generation]], bool]
#: The lifetime, in seconds, of the answer to (prompt, settings of the model); None: as long as the cache says.
AnswerTtl = Callable[[str, str, Sequence[Generation]], float | None]


class Refused(Enum):
    """The type of `REFUSED`: the answer is not to be stored."""

    REFUSED = "refused"


REFUSED: Final = Refused.REFUSED

Terms = float | Literal[Inherit.INHERIT, Refused.REFUSED]


class Keeping:
    """Asks the user's functions. Whatever they raise costs nobody an answer that the model was paid for.

    An answer that a function fails on is not stored: nobody knows whether it should be, or for how long.
    """

    def __init__(self, should_cache: ShouldCache, ttl: float | AnswerTtl | None, recorder: Recorder) -> None:
        """Raises ConfigurationError for what is no such function, or no ttl."""
        self._should_cache: Final = _function("should_cache", should_cache)
        self._ttl: Final[AnswerTtl | None] = _function("ttl", ttl) if callable(ttl) else None
        #: What holds for all answers, or where the function returns None.
        self.otherwise: Final = INHERIT if ttl is None or callable(ttl) else check_ttl(ttl)
        self._recorder: Final = recorder
        self._choice: Final = Asked("should_cache", recorder)
        self._lifetime: Final = Asked("the function given as ttl", recorder)

    def terms(self, prompt: str, llm_string: str, generations: Sequence[Generation]) -> Terms:
        """The ttl to store an answer with, or `REFUSED`, which is counted."""
        wanted = self._choice.ask(lambda: bool(self._should_cache(generations)), REFUSED)
        if wanted is REFUSED:
            return REFUSED
        if not wanted:
            self._recorder.add("skipped")
            return REFUSED
        if self._ttl is None:
            return INHERIT
        return self._lifetime.ask(partial(_seconds, self._ttl, prompt, llm_string, generations), REFUSED)


def _seconds(ttl: AnswerTtl, prompt: str, llm_string: str, generations: Sequence[Generation]) -> Terms:
    given: Any = ttl(prompt, llm_string, generations)
    return INHERIT if given is None or given is INHERIT else check_ttl(given)


def _function(option: str, given: Any) -> Any:
    if not callable(given) or iscoroutinefunction(given):
        raise ConfigurationError(f"{option} is a plain function (not async), not {given!r}")
    return given
