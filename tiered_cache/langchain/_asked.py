"""The user's functions that are asked about an answer: they cost nobody the answer that the model was paid for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from tiered_cache._errors import ConfigurationError
from tiered_cache._guard import Condition
from tiered_cache._stats import Recorder

T = TypeVar("T")
OtherwiseT = TypeVar("OtherwiseT")


class Asked:
    """One of them. Where it fails, that is counted, and logged once per change of state."""

    def __init__(self, name: str, recorder: Recorder) -> None:
        self._recorder: Final = recorder
        self._condition: Final = Condition(name, "answers that it fails on are not stored")

    def ask(self, question: Callable[[], T], otherwise: OtherwiseT) -> T | OtherwiseT:
        """What `question`, a call of the function and what is done to its result, returns; or `otherwise`."""
        try:
            said = question()
        except Exception as error:  # noqa: BLE001  (the user's: it may raise anything)
            self._recorder.add("adapter_errors")
            # What others raise may quote the prompt; our own does not.
            ours = isinstance(error, ConfigurationError)
            self._condition.failed(str(error) if ours else f"it raised {type(error).__name__}")
            return otherwise
        self._condition.worked()
        return said
