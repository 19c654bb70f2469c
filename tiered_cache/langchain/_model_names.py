"""Which model of embeddings it is, and with which settings: what keeps the vectors of two models apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast

from langchain_core.embeddings import Embeddings

from tiered_cache._errors import ConfigurationError

# As the classes of LangChain's integrations call them. The first that is set names the model; all of them count.
_NAMES: Final = (
    "model", "model_name", "model_id", "repo_id", "deployment", "azure_deployment", "endpoint_name", "model_path",
    "model_url",
)  # fmt: skip

# Servers: the same name may be another model there.
_PLACES: Final = (
    "api_base", "api_url", "azure_endpoint", "base_url", "endpoint", "endpoint_url", "openai_api_base", "server_url",
)  # fmt: skip

# Settings that change what comes out. In the mappings (`_kwargs`), these are looked for again; all others, such as
# batch sizes, devices and secrets, change no vector.
_SETTINGS: Final = (
    "dim", "dimension", "dimensions", "dims", "doc_embed_type", "embed_instruction", "embedding_type",
    "embedding_types", "input_type", "max_length", "max_seq_length", "normalize", "normalize_embeddings",
    "output_dimension", "output_dimensionality", "output_dtype", "pooling", "precision", "prompt", "prompt_name",
    "query_instruction", "revision", "size", "task", "task_type", "truncate", "truncate_dim", "truncation",
    "encode_kwargs", "model_kwargs", "query_encode_kwargs", "tokenizer_kwargs", "prompts",
)  # fmt: skip

_NAMED_BY_USERS: Final = ("prompts",)

_SCALARS: Final = (str, int, float, bool)


class ModelName(NamedTuple):
    """`settings` is a digest: of what a server's address may contain, nothing is shown."""

    name: str
    settings: str


def model_name(embeddings: Embeddings, given: str | None, more: Mapping[str, str | None]) -> ModelName:
    """The name `given`, or that by which the object calls its model; `more` counts like a setting.

    Raises ConfigurationError where it calls it nothing.
    """
    settings = _found(embeddings, _SETTINGS)
    if given is None:
        names = {name: value for name, value in _found(embeddings, _NAMES).items() if isinstance(value, str) and value}
        if not names:
            raise ConfigurationError(
                f"which model a {type(embeddings).__name__} asks is not known (none of its attributes "
                f"{', '.join(_NAMES)} says so), and vectors of two models must not be mixed: name it, model='...'"
            )
        settings |= names | _found(embeddings, _PLACES) | {"class": type(embeddings).__qualname__}
        given = next(iter(names.values()))
    elif type(given) is not str or not given:
        raise ConfigurationError(f"model is the name of a model, a str, not {given!r}")
    text = json.dumps([settings, more], sort_keys=True)
    return ModelName(given, blake2b(text.encode(), digest_size=16, person=b"embeddings").hexdigest())


def _found(held: object, names: Iterable[str]) -> dict[str, Any]:
    values = {
        name: _plain(name, held.get(name) if isinstance(held, Mapping) else getattr(held, name, None))  # pyright: ignore[reportUnknownMemberType]
        for name in names
    }
    return {name: value for name, value in values.items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    """A value that is the same text in every process, or None."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Mapping):
        held = cast("Mapping[Any, Any]", value)
        return _found(held, sorted(map(str, held)) if name in _NAMED_BY_USERS else _SETTINGS) or None
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in cast("Iterable[Any]", value)]
    return value if type(value) in _SCALARS else None
