"""Whether an answer is stored, and for how long, as the user's functions say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from inspect import iscoroutinefunction
from typing import Any, Final, Literal

from langchain_core.outputs import Generation

from tiered_cache._errors import ConfigurationError
from tiered_cache._guard import Condition
from tiered_cache._options import check_ttl
from tiered_cache._stats import Recorder
from tiered_cache._view import INHERIT, Inherit

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
        self._choice: Final = Condition("should_cache", "answers that it fails on are not stored")
        self._lifetime: Final = Condition("the function given as ttl", "answers that it fails on are not stored")

    def terms(self, prompt: str, llm_string: str, generations: Sequence[Generation]) -> Terms:
        """The ttl to store an answer with, or `REFUSED`, which is counted."""
        try:
            wanted = self._should_cache(generations)
        except Exception as error:  # noqa: BLE001  (the user's function: whatever it raises, the answer has been paid for)
            return self._failed(self._choice, error)
        self._choice.worked()
        if not wanted:
            self._recorder.add("skipped")
            return REFUSED
        return INHERIT if self._ttl is None else self._asked(self._ttl, prompt, llm_string, generations)

    def _asked(self, ttl: AnswerTtl, prompt: str, llm_string: str, generations: Sequence[Generation]) -> Terms:
        try:
            given: Any = ttl(prompt, llm_string, generations)
            seconds = INHERIT if given is None or given is INHERIT else check_ttl(given)
        except Exception as error:  # noqa: BLE001  (as above)
            return self._failed(self._lifetime, error)
        self._lifetime.worked()
        return seconds

    def _failed(self, condition: Condition, error: Exception) -> Terms:
        self._recorder.add("adapter_errors")
        # What others raise may quote the prompt; our own does not.
        said = str(error) if isinstance(error, ConfigurationError) else f"it raised {type(error).__name__}"
        condition.failed(said)
        return REFUSED


def _function(option: str, given: Any) -> Any:
    if not callable(given) or iscoroutinefunction(given):
        raise ConfigurationError(f"{option} is a plain function (not async), not {given!r}")
    return given
