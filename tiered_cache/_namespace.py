"""The faces of a cache: a namespace with its verbs, for asynchronous and for synchronous callers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from anyio.lowlevel import current_token

from . import _portal as portal
from ._cached import Decorator
from ._codecs import Codec
from ._compute import Computing, is_skipped
from ._errors import ConfigurationError
from ._explain import Explanation, explain
from ._flights import patience
from ._freshness import Freshness, asked
from ._keys import Path, decode_name
from ._options import check_ttl
from ._view import INHERIT, MISSING, Ttl, View, read_across

T = TypeVar("T")
K = TypeVar("K", bound=str | bytes)


class Namespace:
    """A part of a cache, addressed by a path. Clearing it clears all below it, and no sibling.

    A view holds no data and costs next to nothing; two views of one path see the same entries. A key is a `str` or
    `bytes`, the two never equal; a `ttl` is in seconds, above 0, or None for no expiry.

    Reads raise StoreUnavailableError where only the store could have told and it does not answer (with the option
    `serve_miss` they are misses); writes raise it where the change is not durable, or may not be. A front that does not
    answer raises nothing.
    """

    #: The insides, for the adapters of this package.
    view: View

    def __init__(self, view: View) -> None:
        self.view = view

    @property
    def path(self) -> Path:
        return self.view.scope.path

    def namespace(
        self, *segments: str, ttl: Ttl = INHERIT, codec: Codec | None = None, listed: bool = False
    ) -> Namespace:
        """The namespace `segments` below this one.

        `ttl` and `codec` are this view's where not given. Entries set through a `listed` view keep the name of their
        key, in clear, in the store, so that `keys` finds them.
        """
        return Namespace(self.view.below(segments, ttl, codec, listed=listed))

    @property
    def sync(self) -> SyncNamespace:
        """The same verbs for synchronous callers, on any thread, one that runs an event loop included."""
        return SyncNamespace(self)

    async def get(self, key: str | bytes, default: Any = None, *, max_age: float | None = None) -> Any:
        """The value, a new object each time, or `default`. A stored None is a hit: pass `MISSING` to tell.

        With `max_age`, in seconds, a value that was made longer ago is a miss, for this call only; see `freshness`.
        """
        view, name = self.view, self.view.scope.key(key)
        if max_age is None and view.shared.unwatched:  # as `read_across` does then; its lists cost 6 % of a hit
            value = view.value((await view.shared.engine.read((name,)))[0])
        else:
            judge = None if max_age is None else view.shared.judge(asked(max_age))
            (value,) = await read_across([(view, name)], judge=judge)
        return default if value is MISSING else value

    async def get_many(self, keys: Iterable[K], *, max_age: float | None = None) -> dict[K, Any]:
        """The values of those keys that were found; with `max_age`, of those that are fresh enough (see `get`)."""
        names = list(dict.fromkeys(keys))
        judge = None if max_age is None else self.view.shared.judge(asked(max_age))
        values = await read_across([(self.view, self.view.scope.key(name)) for name in names], judge=judge)
        return {name: value for name, value in zip(names, values, strict=True) if value is not MISSING}

    async def explain(self, key: str | bytes) -> Explanation:
        """Where a `get` of this key would find its value just now, and if nowhere, why; see `Explanation`.

        Asks both tiers. Counts as no read, promotes nothing and changes nothing. Raises nothing for a tier that does
        not answer.
        """
        return await explain(self.view, self.view.scope.key(key))

    async def set(self, key: str | bytes, value: Any, *, ttl: Ttl = INHERIT) -> None:
        """Returns once the value is committed. Raises UnsupportedValueError naming the key and the type."""
        await self.set_many({key: value}, ttl=ttl)

    async def set_many(self, items: Mapping[K, Any], *, ttl: Ttl = INHERIT) -> None:
        """All in one transaction. Nothing is written where one of the values is unsupported."""
        seconds = self.view.ttl(ttl)
        changes = [self.view.change(key, value, seconds) for key, value in items.items()]
        if changes:
            await self.view.shared.write(changes)

    async def delete(self, key: str | bytes) -> None:
        await self.delete_many([key])

    async def delete_many(self, keys: Iterable[str | bytes]) -> None:
        """All in one transaction; absent keys are no error."""
        unwanted = [self.view.scope.key(key) for key in keys]
        if unwanted:
            await self.view.shared.delete(unwanted)

    async def clear(self) -> None:
        """Ends everything in this namespace and below it, in one step however much that is.

        The space is reclaimed afterwards, in the background; `erase` waits for that.
        """
        await self.view.shared.clear(self.view.scope)

    async def erase(self) -> int:
        """Clears, removes the rows and the cells, and returns how many rows there were. Takes as long as that takes.

        Raises FrontUnavailableError where the front does not answer: what it holds is unreadable then, but still there.
        """
        return await self.view.shared.erase(self.view.scope)

    async def keys(self, prefix: str | bytes = "") -> AsyncGenerator[str | bytes]:
        """The keys set through a `listed` view of this namespace (not below it) that begin with `prefix`, in no order.

        `str` keys for a `str` prefix, `bytes` for `bytes`. Read from the store, a page at a time: a key set or deleted
        meanwhile may or may not be among them.
        """
        page = await self.view.page(prefix, b"")
        while page:
            for _, name in page:
                yield decode_name(name)
            page = await self.view.page(prefix, page[-1][0])

    async def get_or_compute(
        self,
        key: str | bytes,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl: Ttl = INHERIT,
        grace: float | None = None,
        wait: float | None = None,
        skip: Callable[[T], bool] | None = None,
        max_age: float | None = None,
        refresh: bool | None = None,
        only_if_cached: bool | None = None,
    ) -> T:
        """The value, or what `compute` returns, which is then stored.

        Of all who ask meanwhile, in all processes that share the front, one computes. The others in its process are
        given a copy of the result, or the exception it raised; those in others what it stored. If the one is cancelled
        or dies, another takes over. A computation whose key is set, deleted or cleared before it is done is returned,
        and neither stored nor given to those who ask after that. Where the front does not answer, this holds for each
        process by itself.

        `wait` is how long, in seconds, others' computations are waited for before this call computes as well; None:
        as long as they take. Inside a computation, those of other processes are waited for no longer than `lease_ttl`.

        With `grace`, what is stored is kept for so many seconds after its `ttl`. An expired value is returned, in that
        time, to those who ask while another computes a new one; and to who computes, where `compute` raises.

        A result of which `skip` says true is given to all who wait for it in this process, and not stored. So is one
        that `skip` fails on, which is logged: nobody knows whether it should be.

        With `max_age`, in seconds, what was made longer ago is computed anew; with `refresh`, whatever is there is. Who
        asks for that while it is computed, here or in another process, is given the new value as well; who does not
        goes on with the old one. With `only_if_cached`, what is not there raises NotCachedError instead of being
        computed. None: as `freshness` round the call says.

        A store that does not answer costs nobody the result: it is computed and returned, and the failure counted.
        Raises ConfigurationError for a `grace` without a `ttl`, and for `refresh` together with `only_if_cached`.
        """
        wanted = asked(max_age, refresh, only_if_cached)
        computing = _computing(self.view, key, ttl, grace, wait, wanted)
        with computing.watched():
            return await self._computed(computing, compute, skip)

    async def _computed(
        self, computing: Computing, compute: Callable[[], Awaitable[T]], skip: Callable[[T], bool] | None
    ) -> T:
        turn = await computing.await_turn()
        if turn.flight is None:
            return turn.value
        try:
            with computing.leading(turn):
                value = await compute()
                await computing.land(turn, value, skip=is_skipped(skip, value))
        except Exception:
            value = computing.instead(turn)
            if value is MISSING:
                raise
        return value

    def cached(
        self,
        *,
        ttl: Ttl = INHERIT,
        grace: float | None = None,
        wait: float | None = None,
        namespace: str | Sequence[str] = (),
        version: str = "",
        key: Callable[..., str | bytes] | None = None,
        ignore: str | Collection[str] = (),
        skip: Callable[[Any], bool] | None = None,
    ) -> Decorator:
        """A decorator: what a function returns is stored by its arguments, and computed once for all who ask meanwhile.

        For functions and methods, `async def` and `def` alike (a synchronous one may be called anywhere, inside a
        running loop too), and for LangChain's tools. `ttl`, `grace`, `wait` and `skip` are those of `get_or_compute`.

        The key is the `stable_key` of the arguments by their names, defaults included, without those named in `ignore`;
        or what `key` makes of the arguments. The function has a namespace of its own here: `namespace`, its module and
        name, and `version`, which you change when it shall begin anew. A method's `self` is an argument like any other.
        One function that is decorated differently in several places, by something under `cached`, needs a `namespace`
        for each: it has one name. So do scripts of one file name that share a store.

        The decorated function has the attributes of `Cached` or `AsyncCached`. A result that the codec cannot carry is
        returned and not stored (`unsupported` in `stats()`).

        Raises ConfigurationError, when it decorates, for what is wrong with any of these, and for a generator; for a
        lambda and a function that uses variables of the function it is in, without `namespace`: two of one name would
        share their results. A call raises UnsupportedValueError for arguments that have no stable key.
        """
        _computing(self.view, "", ttl, grace, wait)  # what is wrong with these is wrong now
        if iscoroutinefunction(skip):
            raise ConfigurationError(f"skip is a plain function (not async), not {skip!r}")
        segments = (namespace,) if isinstance(namespace, str) else tuple(namespace)
        return Decorator(
            lambda *own: self.namespace(*segments, *own),
            identified=bool(segments),
            version=version,
            key=key,
            ignore=frozenset((ignore,) if isinstance(ignore, str) else ignore),
            computing={"ttl": ttl, "grace": grace, "wait": wait, "skip": skip},
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"


class SyncNamespace:
    """A namespace for synchronous callers. Each verb blocks until it is done and promises what its namesake does."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    @property
    def path(self) -> Path:
        return self._namespace.path

    def get(self, key: str | bytes, default: Any = None, *, max_age: float | None = None) -> Any:
        return portal.call(partial(self._namespace.get, key, default, max_age=max_age))

    def get_many(self, keys: Iterable[K], *, max_age: float | None = None) -> dict[K, Any]:
        names = list(keys)
        found: dict[K, Any] = portal.call(partial(self._namespace.get_many, names, max_age=max_age))
        return found

    def explain(self, key: str | bytes) -> Explanation:
        return portal.call(self._namespace.explain, key)

    def set(self, key: str | bytes, value: Any, *, ttl: Ttl = INHERIT) -> None:
        self.set_many({key: value}, ttl=ttl)

    def set_many(self, items: Mapping[K, Any], *, ttl: Ttl = INHERIT) -> None:
        portal.call(partial(self._namespace.set_many, items, ttl=ttl))

    def delete(self, key: str | bytes) -> None:
        self.delete_many([key])

    def delete_many(self, keys: Iterable[str | bytes]) -> None:
        portal.call(self._namespace.delete_many, list(keys))

    def clear(self) -> None:
        portal.call(self._namespace.clear)

    def erase(self) -> int:
        return portal.call(self._namespace.erase)

    def keys(self, prefix: str | bytes = "") -> Generator[str | bytes]:
        page = portal.call(self._namespace.view.page, prefix, b"")
        while page:
            for _, name in page:
                yield decode_name(name)
            page = portal.call(self._namespace.view.page, prefix, page[-1][0])

    def get_or_compute(
        self,
        key: str | bytes,
        compute: Callable[[], T],
        *,
        ttl: Ttl = INHERIT,
        grace: float | None = None,
        wait: float | None = None,
        skip: Callable[[T], bool] | None = None,
        max_age: float | None = None,
        refresh: bool | None = None,
        only_if_cached: bool | None = None,
    ) -> T:
        """As `Namespace.get_or_compute`; `compute` runs in the thread of the caller."""
        token = patience.set("no one" if runs_a_loop() else "synchronous")
        try:
            wanted = asked(max_age, refresh, only_if_cached)
            computing = _computing(self._namespace.view, key, ttl, grace, wait, wanted)
            with computing.watched():
                return self._computed(computing, compute, skip)
        finally:
            patience.reset(token)

    def _computed(self, computing: Computing, compute: Callable[[], T], skip: Callable[[T], bool] | None) -> T:
        turn = portal.call(computing.await_turn)
        if turn.flight is None:
            return turn.value
        try:
            with computing.leading(turn):
                value = compute()
                portal.call(partial(computing.land, turn, value, skip=is_skipped(skip, value)))
        except Exception:
            value = computing.instead(turn)
            if value is MISSING:
                raise
        return value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"


def _computing(
    view: View, key: str | bytes, ttl: Ttl, grace: float | None, wait: float | None, wanted: Freshness | None = None
) -> Computing:
    """Raises ConfigurationError for what is wrong with any of these: that must not cost a computation."""
    seconds = view.ttl(ttl)
    if grace is not None and seconds is None:
        raise ConfigurationError("grace begins where a ttl ends: give a ttl as well")
    if wait is not None and not (type(wait) in (int, float) and wait >= 0):
        raise ConfigurationError(f"wait is a number of seconds, 0 or more, or None, not {wait!r}")
    return Computing(view, key, seconds, None if grace is None else check_ttl(grace), wait, wanted)


def runs_a_loop() -> bool:
    """Whether the current thread runs an event loop."""
    try:
        current_token()
    except RuntimeError:  # as its subclasses of anyio and of sniffio say, each in its releases
        return False
    return True
