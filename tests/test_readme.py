"""The README's examples, run as they stand there, with models of our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from tiered_cache import TieredCache

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def example(name: str) -> dict[str, Any]:
    """What the block of code under `<!-- example: NAME -->` defines."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"no example called {name}"
    defined: dict[str, Any] = {"__name__": f"readme_{name}"}
    exec(compile(found[1], f"README.md, {name}", "exec", dont_inherit=True), defined)
    return defined


class Parrot(BaseChatModel):
    """Says what it was told last, a word at a time, and counts how often it was asked."""

    name: str | None = "parrot"
    asked: Iterator[int] = count()

    @property
    def calls(self) -> int:
        return int(repr(self.asked)[len("count(") : -1])

    @property
    def _llm_type(self) -> str:
        return "parrot"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": "parrot-1"}

    def _words(self, messages: list[BaseMessage]) -> list[str]:
        next(self.asked)
        return re.findall(r"\S+\s*", messages[-1].text)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="".join(self._words(messages))))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for word in self._words(messages):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


@pytest.fixture
def model() -> Parrot:
    return Parrot(asked=count())


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_a_chat(model: Parrot, capsys: pytest.CaptureFixture[str]) -> None:
    chat: Callable[..., Any] = example("chat")["chat"]
    questions = ["how many apples", "and how many pears"]
    await chat(model, questions)
    first = capsys.readouterr().out
    assert model.calls == 2
    await chat(model, questions)
    assert (model.calls, capsys.readouterr().out) == (2, first)
    assert "how many apples" in first


async def test_a_graph(model: Parrot) -> None:
    make_graph: Callable[..., Any] = example("graph")["make_graph"]
    async with TieredCache() as cache:
        for _ in range(2):
            graph = make_graph(model, cache)
            found = await graph.ainvoke({"messages": [("human", "a plan, please")]})
            assert [message.text for message in found["messages"]] == ["a plan, please", "a plan, please"]
    assert model.calls == 1


async def test_retrieval() -> None:
    class Counting(DeterministicFakeEmbedding):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            embedded.extend(texts)
            return super().embed_documents(texts)

    embedded: list[str] = []
    make_retriever: Callable[..., Any] = example("retrieval")["make_retriever"]
    async with TieredCache() as cache:
        for _ in range(2):
            retriever = await make_retriever(Counting(size=8), cache, ["apples", "pears", "apples"])
            assert [found.page_content for found in await retriever.ainvoke("pears")][:1] == ["pears"]
    assert sorted(embedded) == ["apples", "pears"]


def test_a_service(model: Parrot) -> None:
    make_app: Callable[..., Any] = example("service")["make_app"]
    with TestClient(make_app(model, TieredCache())) as client:

        def ask(tenant: str) -> str:
            return client.get("/ask", params={"q": "how many apples"}, headers={"X-Tenant": tenant}).json()["answer"]

        assert [ask("a"), ask("a"), ask("b"), ask("b")] == ["how many apples"] * 4
        assert model.calls == 2
        assert client.delete("/answers", headers={"X-Tenant": "a"}).status_code == 204
        assert [ask("a"), ask("b")] == ["how many apples"] * 2
        assert model.calls == 3
