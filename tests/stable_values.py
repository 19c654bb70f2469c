"""Values with a stable key, made anew each time; `python -m tests.stable_values` prints their keys.

Dicts are filled in the order in which sets give out their members, which each hash seed makes another.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel

from tiered_cache import TieredCache, stable_key


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Search:
    query: str
    filters: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    client: object = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: int
    b: int = 2


class Question(BaseModel):
    model_config = ConfigDict(extra="allow")
    text: str
    tags: set[str] = set()
    points: list[Point] = []
    _client: Any = PrivateAttr(default=None)


class Words(RootModel[list[str]]):
    pass


class Client:
    """Says itself what identifies it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = object()

    def __stable_key__(self) -> str:
        return self.url


class Tags(set[str]):
    pass


WORDS = {f"word {n}" for n in range(20)}


def values() -> dict[str, Any]:
    nested = {word: {word: [word]} for word in WORDS}
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    return {
        "none": None,
        "true": True,
        "false": False,
        "zero": 0,
        "one": 1,
        "minus one": -1,
        "a long int": 10**5000,
        "one float": 1.0,
        "zero float": 0.0,
        "minus zero": -0.0,
        "nan": float("nan"),
        "infinity": float("inf"),
        "complex": complex(1.5, -2),
        "text": "text",
        "no text": "",
        "a lone surrogate": "\ud800",
        "bytes": b"text",
        "bytearray": bytearray(b"text"),
        "decimal": Decimal("1.0"),
        "a longer decimal": Decimal("1.00"),
        "decimal nan": Decimal("NaN"),
        "fraction": Fraction(1, 3),
        "date": date(2026, 11, 21),
        "datetime": datetime(2026, 11, 21, 8, 30, 0, 1),  # noqa: DTZ001
        "datetime, fold": datetime(2026, 11, 21, 8, 30, 0, 1, fold=1),  # noqa: DTZ001
        "datetime, UTC": datetime(2026, 11, 21, 8, 30, tzinfo=UTC),
        "datetime, an offset": datetime(2026, 11, 21, 8, 30, tzinfo=timezone(timedelta(hours=1))),
        "datetime, a zone": datetime(2026, 11, 21, 8, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        "time": time(8, 30),
        "timedelta": timedelta(days=-1, seconds=2, microseconds=3),
        "uuid": UUID(int=7),
        "range": range(1, 9, 2),
        "slice": slice(None, 3),
        "ellipsis": ...,
        "pattern": re.compile("a+", re.IGNORECASE),
        "posix path": PurePosixPath("/a/b"),
        "windows path": PureWindowsPath("c:/a"),
        "enum": Colour.RED,
        "another enum": Colour.BLUE,
        "flags": Rights.READ | Rights.RUN,
        "int enum": Level.LOW,
        "no list": [],
        "list": [1, [2, "3"]],
        "tuple": (1, [2, "3"]),
        "no dict": {},
        "dict": nested,
        "dict of odd keys": {1: "int", "1": "str", (1, "a"): "tuple", None: "none", 1.5: "float"},
        "set": set(WORDS),
        "frozenset": frozenset(WORDS),
        "set of frozensets": {frozenset({word, "x"}) for word in WORDS},
        "deque": deque([1, 2], maxlen=5),
        "defaultdict": defaultdict(list, nested),
        "counter": Counter(["a", "b", "a"]),
        "ordered dict": OrderedDict(b=1, a=2),
        "ordered dict, otherwise": OrderedDict(a=2, b=1),
        "own set": Tags(WORDS),
        "named tuple": Point(1, 2),
        "dataclass": Search("q", nested, client=object()),
        "slotted dataclass": Slotted(1),
        "pydantic": Question(text="q", tags=set(WORDS), points=[Point(1, 2)]),
        "pydantic, extra": Question.model_validate({"text": "q", "more": nested}),
        "pydantic root": Words.model_validate(["a", "b"]),
        "own word": Client("http://a"),
        "function": stable_key,
        "builtin function": len,
        "class": TieredCache,
        "human": HumanMessage("hi", id="1"),
        "human, blocks": HumanMessage([{"type": "text", "text": "hi"}, {"type": "image", "base64": "aGk="}]),
        "system": SystemMessage("be kind"),
        "ai": AIMessage(
            "hello",
            id="2",
            tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c"}],
            usage_metadata=usage,
            response_metadata={"model_name": "m"},
        ),
        "ai chunk": AIMessageChunk(content="hello"),
        "tool": ToolMessage("42", tool_call_id="c", artifact={"a": {1, 2}}),
        "remove": RemoveMessage("3"),
        "document": Document("page", id="d", metadata={"source": "s"}),
        "state": {"messages": [HumanMessage("hi"), AIMessage("hello")], "seen": set(WORDS)},
        "array": np.arange(6, dtype=np.int32).reshape(2, 3),
        "float array": np.array([1.0, float("nan"), -0.0]),
        "complex array": np.array([1 + 2j, complex(float("nan"), 1)]),
        "text array": np.array(["a", "bc"]),
        "date array": np.array(["2026-11-21"], dtype="datetime64[D]"),
        "object array": np.array([{"a": 1}, None], dtype=object),
        "record array": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        "empty array": np.zeros((0, 3), dtype=np.float32),
        "no dimensions": np.array(1.0),
        "scalar": np.float64(1.0),
        "bool scalar": np.bool_(True),
        "text scalar": np.str_("text"),
    }


def main() -> None:
    json.dump({name: stable_key(value) for name, value in values().items()}, sys.stdout)


if __name__ == "__main__":
    main()
