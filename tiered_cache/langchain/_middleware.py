"""LangChain agents: middleware that answers their model calls from a cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.caches import BaseCache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.runnables import RunnableBinding

from tiered_cache._errors import require_extra
from tiered_cache._stats import logger

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
except ModuleNotFoundError as _error:
    raise require_extra("langchain", "agents") from _error

from ._chat_model import cached_chat_model

if TYPE_CHECKING:
    _Middleware = AgentMiddleware[Any, Any, Any]
else:
    _Middleware = AgentMiddleware  # how many parameters it has depends on the release


@lru_cache(64)
def _warn(name: str) -> None:
    logger.warning(
        "CacheMiddleware: the agent's model is a %s, whose calls are not cached: make it of models that are each a "
        "cached_chat_model",
        name,
    )


# An agent has one model, or chooses among a few.
_MODELS: Final = 16


class CacheMiddleware(_Middleware):
    """For `create_agent(model, tools, middleware=[..., CacheMiddleware(cache)])`: each call asks a `cached_chat_model`.

    The last in the list is the nearest to the model: what others do to a request is part of the question then, and a
    model that they choose is cached as well. An agent whose model is itself a `cached_chat_model` needs none of this.

    Raises ConfigurationError, when the agent runs, where `cache` is no cache.
    """

    def __init__(self, cache: BaseCache) -> None:
        super().__init__()
        self._cache: Final = cache
        self._models: dict[int, tuple[BaseChatModel, BaseChatModel]] = {}

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Runs `request` with its model cached."""
        return handler(request.override(model=self._cached(request.model)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Runs `request` with its model cached."""
        return await handler(request.override(model=self._cached(request.model)))

    def _cached(self, model: Any) -> Any:
        """The model, cached, in whatever settings are bound to it; anything else (fallbacks, say) as it is."""
        if isinstance(model, RunnableBinding):
            binding = cast("RunnableBinding[Any, Any]", model)
            return binding.model_copy(update={"bound": self._cached(binding.bound)})
        if not isinstance(model, BaseChatModel):
            _warn(type(model).__name__)
            return model
        # One for each model: what it sets up while it runs, its connections among that, stays with it. The model is
        # kept as well, so that its id is not another's.
        known = self._models.get(id(model))
        if known is None:
            if len(self._models) >= _MODELS:
                self._models.clear()
            known = self._models[id(model)] = model, cached_chat_model(model, self._cache)
        return known[1]
