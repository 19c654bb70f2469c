"""What was asked, kept beside what was answered, to be found again by what the application said of it.

Beside an answer, and in the same transaction, are written: a note (the prompt and the metadata) in a namespace below
that of the model's settings, which ends with it; and an entry of the index for each pair of the metadata, and one for
all of them, listed under the digest of the answer. All of these are in the store alone. The index only points: whatever
it names counts if there are a note that says so and an answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from langchain_core.outputs import Generation

from tiered_cache import _portal as portal
from tiered_cache._codecs import PlainCodec
from tiered_cache._engine import Change
from tiered_cache._errors import ConfigurationError
from tiered_cache._keys import Key, decode_name
from tiered_cache._namespace import Namespace
from tiered_cache._view import MISSING, View

from ._asked import Asked
from ._questions import Question

#: The same metadata for all answers, or a function of (prompt, settings of the model, answer).
Remember = Mapping[str, str] | Callable[[str, str, Sequence[Generation]], Mapping[str, str]]

# What no settings of a model begin with.
_INDEX: Final = "\0index"
_NOTES: Final = "\0notes"

# Notes and answers that are read, decoded or deleted in one go.
_PORTION: Final = 64


@dataclass(frozen=True, slots=True)
class Remembered:
    """A question whose answer is stored, as it was asked; the answer's objects are new ones."""

    prompt: str
    llm_string: str
    metadata: Mapping[str, str]
    answer: tuple[Generation, ...]


class _Place(NamedTuple):
    """Where an answer, and the note beside it, are."""

    name: bytes
    llm_string: str
    answer: tuple[View, Key]
    note: tuple[View, Key]


class _Found(NamedTuple):
    record: Remembered
    #: All that is to be deleted with it.
    keys: list[Key]


class Notes:
    """The notes of one adapter, whose answers are in the namespaces below `answers`, one for each model's settings."""

    def __init__(self, answers: Namespace, remember: Remember) -> None:
        """Raises ConfigurationError for what is neither metadata nor a plain function."""
        if iscoroutinefunction(remember):
            raise ConfigurationError("remember is a mapping or a plain function (not async)")
        self._remember: Final = remember if callable(remember) else dict(_checked("remember", remember))
        self._answers: Final = answers
        self._index: Final = answers.namespace(_INDEX, codec=PlainCodec(), listed=True)
        self._shared: Final = answers.view.shared
        self._asked: Final = Asked("the function given as remember", self._shared.recorder)

    def with_notes(self, answer: Change, question: Question, generations: Sequence[Generation]) -> list[Change] | None:
        """What to write: the answer, and all that finds it again. None where the user's function fails."""
        metadata = self._metadata(question, generations)
        if metadata is None:
            return None
        name, notes = answer.key.digest, self._notes(question.llm_string)
        index = [view.change(name, str(question.llm_string), None) for view in self._places(metadata)]
        beside = [notes.change(name, [str(question.prompt), metadata], None), *index]
        return [answer, *(each._replace(ttl=answer.ttl, in_front=False) for each in beside)]

    async def delete(self, llm_string: str, key: str) -> None:
        """Forgets an answer and all that would find it. Raises what `Namespace.delete` raises."""
        place = self._place(self._answers.namespace(llm_string).view.scope.key(key).digest, llm_string)
        (note,) = await self._read([place.note])
        await self._shared.delete(self._keys(place, (_noted(note) or ("", {}))[1]))

    async def find(self, wanted: Mapping[str, str]) -> AsyncGenerator[list[_Found]]:
        """Some at a time, all records whose metadata has these pairs. Raises StoreUnavailableError."""
        # Those listed under the rarest pair, if one of them is rare enough to tell.
        views = self._places(_checked("metadata", wanted))[1:] or [self._index.view]
        pages = [(await view.page(b"", b""), view) for view in views]
        page, view = min(pages, key=lambda listed: len(listed[0]))
        while page:
            for start in range(0, len(page), _PORTION):
                names = [cast("bytes", decode_name(name)) for _, name in page[start : start + _PORTION]]
                yield [
                    each for each in await self._look_up(view, names) if wanted.items() <= each.record.metadata.items()
                ]
            page = await view.page(b"", page[-1][0])

    async def forget(self, wanted: Mapping[str, str]) -> int:
        """Deletes all that `find` finds; how many answers. Raises StoreUnavailableError."""
        forgotten = 0
        async for some in self.find(wanted):
            if some:
                await self._shared.delete([key for each in some for key in each.keys])
                forgotten += len(some)
        return forgotten

    def _metadata(self, question: Question, generations: Sequence[Generation]) -> dict[str, str] | None:
        remember = self._remember
        if not callable(remember):
            return remember
        return self._asked.ask(lambda: dict(_checked("remember", remember(*question, generations))), None)

    async def _look_up(self, view: View, names: Sequence[bytes]) -> list[_Found]:
        """What the names in an index stand for, without those that stand for nothing any more."""
        settings = await self._read([(view, view.scope.key(name)) for name in names])
        places = [self._place(name, of) for name, of in zip(names, settings, strict=True) if type(of) is str]
        values = await self._read([at for place in places for at in (place.note, place.answer)])
        found: list[_Found] = []
        for place, note, answer in zip(places, values[::2], values[1::2], strict=True):
            if (noted := _noted(note)) is not None and answer is not MISSING:
                prompt, metadata = noted
                record = Remembered(prompt, place.llm_string, MappingProxyType(metadata), tuple(answer))
                found.append(_Found(record, self._keys(place, metadata)))
        return found

    async def _read(self, wanted: Sequence[tuple[View, Key]]) -> list[Any]:
        """A value or MISSING for each, from the store alone: what is looked at once need not go into the front."""
        answers = await self._shared.engine.inquiries.read_stored([key for _, key in wanted]) if wanted else ()
        return [
            MISSING if answer is None else view.open(answer.envelope)
            for (view, _), answer in zip(wanted, answers, strict=True)
        ]

    def _place(self, name: bytes, llm_string: str) -> _Place:
        answers, notes = self._answers.namespace(llm_string).view, self._notes(llm_string)
        answer = Key(name, b"", answers.scope)
        return _Place(name, llm_string, (answers, answer), (notes, notes.scope.key(name)))

    def _keys(self, place: _Place, metadata: Mapping[str, str]) -> list[Key]:
        index = [view.scope.key(place.name) for view in self._places(metadata)]
        return [place.answer[1], place.note[1], *index]

    def _notes(self, llm_string: str) -> View:
        return self._answers.namespace(llm_string, _NOTES, codec=PlainCodec()).view

    def _places(self, metadata: Mapping[str, str]) -> list[View]:
        """The indexes that an answer with this metadata is listed in: that of all, and those of its pairs."""
        pairs = [self._index.namespace(*pair, listed=True) for pair in metadata.items()]
        return [each.view for each in (self._index, *pairs)]


class Findable:
    """What an adapter offers on its notes, where it takes any."""

    _notes: Notes | None

    def find(self, /, **metadata: str) -> Generator[Remembered]:
        """The questions, with their answers, whose metadata has all of these pairs; without any, all. In no order.

        Read from the store, some at a time: what is stored or deleted meanwhile may or may not be among them. Raises
        StoreUnavailableError where the store does not answer, and ConfigurationError without `remember`.
        """
        found = self._noted.find(metadata)
        while (some := portal.call(anext, found, None)) is not None:
            yield from (each.record for each in some)

    async def afind(self, /, **metadata: str) -> AsyncGenerator[Remembered]:
        """The questions, with their answers, whose metadata has all of these pairs; without any, all. In no order.

        Read from the store, some at a time: what is stored or deleted meanwhile may or may not be among them. Raises
        StoreUnavailableError where the store does not answer, and ConfigurationError without `remember`.
        """
        async for some in self._noted.find(metadata):
            for each in some:
                yield each.record

    def forget(self, /, **metadata: str) -> int:
        """Deletes all that `find` finds, a part at a time; returns how many answers that were. Raises what it raises.

        Unlike `delete` it fails where the store does: it is for those who must know that it is gone.
        """
        return portal.call(self._noted.forget, metadata)

    async def aforget(self, /, **metadata: str) -> int:
        """Deletes all that `find` finds, a part at a time; returns how many answers that were. Raises what it raises.

        Unlike `delete` it fails where the store does: it is for those who must know that it is gone.
        """
        return await self._noted.forget(metadata)

    @property
    def _noted(self) -> Notes:
        if self._notes is None:
            raise ConfigurationError("nothing is remembered: LangChainCache(cache, remember={}) notes what is asked")
        return self._notes


def _checked(what: str, metadata: Any) -> Mapping[str, str]:
    """Raises ConfigurationError for what is no mapping of str to str, without quoting it."""
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(f"{what}: metadata is a mapping of str to str, not {type(metadata).__name__}")
    pairs = cast("Mapping[Any, Any]", metadata)
    for part in (*pairs, *pairs.values()):
        if type(part) is not str:
            raise ConfigurationError(f"{what}: metadata is a mapping of str to str; {type(part).__name__} is in it")
    return pairs


def _noted(note: Any) -> tuple[str, dict[str, str]] | None:
    """The prompt and the metadata; None for what is no note."""
    match note:
        case [str(prompt), {**metadata}] if all(type(part) is str for pair in metadata.items() for part in pair):
            return prompt, cast("dict[str, str]", metadata)
        case _:
            return None
