"""`cached` and LangChain's `@tool`, the one over the other and the other way round."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import ToolCall
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolArg, StructuredTool, Tool, tool

from tests.doubles import DictStore
from tiered_cache import MemoryFront, TieredCache

RUNS: list[Any] = []
CACHE = TieredCache(MemoryFront(), DictStore(identity="tools"))


@pytest.fixture(autouse=True)
async def nothing_kept() -> None:
    RUNS.clear()
    await CACHE.clear()


@tool
@CACHE.cached(ignore="config")
async def over(query: str, config: RunnableConfig, limit: int = 3) -> str:
    """Searches."""
    RUNS.append((query, limit, type(config)))
    return f"{query} {limit}"


@CACHE.cached(ignore=("config", "user"))
@tool
async def under(query: str, config: RunnableConfig, user: Annotated[str, InjectedToolArg], limit: int = 3) -> str:
    """Searches."""
    RUNS.append((query, limit, type(config)))
    return f"{query} {limit} {user}"


@tool
@CACHE.cached()
def synchronous_over(query: str, tags: set[str]) -> list[str]:
    """Searches."""
    RUNS.append(query)
    return [query, *sorted(tags)]


@CACHE.cached()
@tool("renamed")
def synchronous_under(query: str, tags: set[str]) -> list[str]:
    """Searches."""
    RUNS.append(query)
    return [query, *sorted(tags)]


async def test_a_tool_of_a_cached_function_runs_once() -> None:
    assert isinstance(over, StructuredTool)
    assert set(over.args) == {"query", "limit"}
    assert [await over.ainvoke({"query": "q"}) for _ in range(2)] == ["q 3"] * 2
    assert await over.ainvoke({"query": "q", "limit": 3}, config={"tags": ["another"]}) == "q 3"
    assert len(RUNS) == 1
    assert RUNS[0][2] is dict
    call = ToolCall(name="over", args={"query": "q"}, id="1", type="tool_call")
    assert (await over.ainvoke(call)).content == "q 3"
    assert len(RUNS) == 1


async def test_a_tool_under_the_decorator_stays_a_tool_and_runs_once() -> None:
    assert isinstance(under, StructuredTool)
    assert (under.name, under.description) == ("under", "Searches.")
    schema: Any = under.tool_call_schema
    assert set(schema.model_json_schema()["properties"]) == {"query", "limit"}
    for _ in range(2):
        assert await under.ainvoke({"query": "q", "user": "me"}) == "q 3 me"
    assert len(RUNS) == 1


@pytest.mark.parametrize("decorated", [synchronous_over, synchronous_under], ids=["over", "under"])
async def test_synchronous_tools(decorated: StructuredTool) -> None:
    found = [decorated.invoke({"query": "q", "tags": {"a", "b"}}) for _ in range(2)]
    found += [await decorated.ainvoke({"query": "q", "tags": ["b", "a"]})]
    assert found == [["q", "a", "b"]] * 3
    assert RUNS == ["q"]


async def test_the_tool_itself_is_not_changed() -> None:
    def search(query: str) -> str:
        RUNS.append(query)
        return query

    plain = Tool("search", search, "Searches.")
    cached = CACHE.cached()(plain)
    for each in (cached, plain, cached, plain):
        assert each.invoke("q") == "q"
    assert len(RUNS) == 3


async def test_a_retriever_gives_back_documents_where_the_codec_carries_them() -> None:
    """With the default codec they are returned, and not kept."""

    @CACHE.cached()
    async def retrieve(query: str) -> list[Document]:
        RUNS.append(query)
        return [Document(query)]

    for _ in range(2):
        assert await retrieve("q") == [Document("q")]
    assert len(RUNS) == 2
    assert CACHE.stats().unsupported == 2
