"""The adapter as LangGraph's machinery and a package installer see it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from typing import Any, cast

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import ValidationError

import tiered_cache.langgraph
from tests.langgraph.graphs import TwoNodes
from tests.langgraph.running import ainvoke, invoke
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.langgraph import LangGraphCache

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)


def test_exports(world: Any) -> None:
    assert tiered_cache.langgraph.__all__ == ["LangGraphCache", "stable_cache_key"]


def test_it_is_a_cache_that_is_never_false(results: LangGraphCache[Any]) -> None:
    assert isinstance(results, BaseCache)
    assert not hasattr(results, "__len__")
    assert not hasattr(results, "__bool__")
    assert results


def test_pickle_is_off_unless_asked_for(cache: TieredCache, results: LangGraphCache[Any]) -> None:
    assert isinstance(results.serde, JsonPlusSerializer)
    assert results.serde.pickle_fallback is False
    own = JsonPlusSerializer()
    assert LangGraphCache[Any](cache, serde=own).serde is own


class Xor:
    """A cipher for tests: it hides text from a reader, not from an attacker."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "xor", bytes(byte ^ 0x5A for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "xor"
        return bytes(byte ^ 0x5A for byte in ciphertext)


async def test_an_encrypted_serializer_leaves_nothing_readable_in_the_tiers(
    cache: TieredCache, sqlite_url: str
) -> None:
    results: LangGraphCache[Any] = LangGraphCache(cache, serde=EncryptedSerializer(Xor(), JsonPlusSerializer()))
    two = TwoNodes(results, output=lambda question: ("a secret answer", question))
    found = [(await two.graph.ainvoke({"question": "q"}))["answer"] for _ in range(2)]
    assert found == [("a secret answer", "q")] * 2
    assert two.total == 2
    await cache.aclose()
    path = sqlite_url.removeprefix("sqlite:///")
    with open(path, "rb") as file:  # noqa: ASYNC230, PTH123
        assert b"secret" not in file.read()
    assert await LangGraphCache[Any](cache).aget([(("n",), "k")]) == {}


def test_without_langgraph_the_error_names_the_extra(world: Any) -> None:
    code = "import sys; sys.modules['langgraph'] = None; import tiered_cache, tiered_cache.langgraph"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError" in done.stderr.splitlines()[-1] or "MissingExtraError" in done.stderr.splitlines()[-1]
    assert "pip install 'tiered-cache[langgraph]'" in done.stderr.splitlines()[-1]


@pytest.fixture
def no_global_cache() -> Generator[None]:
    yield
    set_llm_cache(None)


async def test_in_the_place_of_a_models_cache_it_says_what_belongs_there(
    results: LangGraphCache[Any], no_global_cache: None
) -> None:
    model = FakeListChatModel(responses=["hi"])
    place: Any = set_llm_cache
    place(results)
    for call in (model.ainvoke, partial(asyncio.to_thread, model.invoke)):
        with pytest.raises(AttributeError, match=r"use tiered_cache\.langchain\.LangChainCache"):
            await call("q")
    with pytest.raises(ValidationError, match="cache"):
        FakeListChatModel(responses=["hi"], cache=cast("Any", results))


async def test_in_its_place_a_models_cache_says_what_belongs_there(cache: TieredCache) -> None:
    two = TwoNodes(cast("Any", LangChainCache(cache)))
    for call in (ainvoke, invoke):
        with pytest.raises(AttributeError, match=r"use tiered_cache\.langgraph\.LangGraphCache"):
            await call(two.graph, {"question": "q"})
    assert two.total == 0


@pytest.mark.parametrize("kind", [LangGraphCache, LangChainCache])
def test_what_neither_framework_has_is_missing_as_usual(cache: TieredCache, kind: Any) -> None:
    adapter = kind(cache)
    assert not hasattr(adapter, "get_many")
    with pytest.raises(AttributeError, match=f"^'{kind.__name__}' object has no attribute 'nonsense'$"):
        adapter.nonsense  # noqa: B018


def test_repr_names_the_place_only(results: LangGraphCache[Any]) -> None:
    assert repr(results) == "<LangGraphCache ('langgraph',)>"
