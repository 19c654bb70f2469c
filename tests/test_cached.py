"""`Namespace.cached`: what a function returns is kept by its arguments, and computed once."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, assert_type, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.doubles import DictStore
from tests.faulty import cache as cache
from tests.faulty import store as store
from tests.worlds import World
from tiered_cache import AsyncCached, Cached, ConfigurationError, MemoryFront, TieredCache, UnsupportedValueError
from tiered_cache._codecs import PlainCodec
from tiered_cache.testing import FaultyStore, Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS

RUNS: list[Any] = []


@pytest.fixture(autouse=True)
def no_runs() -> None:
    RUNS.clear()


async def fetch(url: str, limit: int = 10, *args: Any, verbose: bool = False, **options: Any) -> dict[str, Any]:
    """Fetches."""
    RUNS.append((url, limit, args, verbose, options))
    return {"url": url, "limit": limit}


def read(path: str, limit: int = 10) -> list[Any]:
    RUNS.append((path, limit))
    return [path, limit]


async def echo(value: Any) -> Any:
    RUNS.append(value)
    return value


# --- every world ------------------------------------------------------------------------------------------------------


class TestEverywhere:
    @pytest.fixture
    def cache(self, world: World) -> Generator[TieredCache]:
        cache = TieredCache(world.front, world.store, front_timeout=2.0)
        yield cache
        cache.close()

    async def test_an_asynchronous_function_runs_once_for_equal_arguments(self, cache: TieredCache) -> None:
        cached = cache.cached()(fetch)
        found = [
            await cached("a"),
            await cached(url="a"),
            await cached("a", 10, verbose=False),
            await cached(limit=10, url="a"),
        ]
        assert found == [{"url": "a", "limit": 10}] * 4
        assert len({id(each) for each in found}) == 4
        assert len(RUNS) == 1
        await cached("a", 11)
        await cached("a", 10, "more")
        await cached("a", other=1)
        assert len(RUNS) == 4

    def test_a_synchronous_function_runs_once_for_equal_arguments(self, cache: TieredCache) -> None:
        cached = cache.cached()(read)
        assert [cached("a"), cached(path="a"), cached("a", 10)] == [["a", 10]] * 3
        assert cached("b") == ["b", 10]
        assert RUNS == [("a", 10), ("b", 10)]

    async def test_a_synchronous_function_may_be_called_where_a_loop_runs(self, cache: TieredCache) -> None:
        cached = cache.cached()(read)
        assert cached("a") == cached("a") == await anyio.to_thread.run_sync(cached, "a") == ["a", 10]
        assert len(RUNS) == 1

    async def test_another_cache_on_the_same_tiers_finds_what_was_kept(self, cache: TieredCache, world: World) -> None:
        await cache.cached(ttl=60)(fetch)("a")
        async with TieredCache(world.other_front(), world.store, front_timeout=2.0) as other:
            assert await other.cached(ttl=60)(fetch)("a") == {"url": "a", "limit": 10}
        assert len(RUNS) == 1

    async def test_a_result_that_is_invalidated_is_computed_anew(self, cache: TieredCache) -> None:
        cached = cache.cached()(fetch)
        for url in ("a", "b"):
            await cached(url)
        await cached.invalidate(url="a", limit=10)
        for url in ("a", "b"):
            await cached(url)
        assert [url for url, *_ in RUNS] == ["a", "b", "a"]
        await cached.clear()
        await cached("b")
        assert len(RUNS) == 4

    def test_and_so_it_is_synchronously(self, cache: TieredCache) -> None:
        cached = cache.cached()(read)
        cached("a")
        cached.invalidate("a")
        cached("a")
        cached.clear()
        cached("a")
        assert len(RUNS) == 3

    async def test_of_ten_equal_calls_one_computes(self, cache: TieredCache) -> None:
        gate = Gate()

        @cache.cached(namespace="slow")
        async def slow(value: str) -> list[str]:
            RUNS.append(value)
            await gate.wait()
            return [value]

        results: list[Any] = []

        async def ask() -> None:
            results.append(await slow("a"))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
            await gate.reached()
            gate.open()
        assert results == [["a"]] * 10
        assert RUNS == ["a"]

    def test_of_ten_equal_calls_in_threads_one_computes(self, cache: TieredCache) -> None:
        inside, goes_on = Event(), Event()

        @cache.cached(namespace="slow")
        def slow(value: str) -> list[str]:
            RUNS.append(value)
            inside.set()
            assert goes_on.wait(PATIENCE_SECONDS)
            return [value]

        with ThreadPoolExecutor(10) as pool:
            asked = [pool.submit(slow, "a") for _ in range(10)]
            assert inside.wait(PATIENCE_SECONDS)
            goes_on.set()
            assert [each.result(PATIENCE_SECONDS) for each in asked] == [["a"]] * 10
        assert RUNS == ["a"]


def naively_cached(function: Callable[..., Any]) -> Callable[..., Any]:
    """As everybody writes it first: a dict, by what was passed."""
    kept: dict[Any, Any] = {}

    async def cached(*args: Any, **kwargs: Any) -> Any:
        key = (args, tuple(kwargs.items()))
        if key not in kept:
            kept[key] = await function(*args, **kwargs)
        return kept[key]

    return cached


async def test_the_naive_way_computes_for_everybody_and_tells_types_apart_from_nothing() -> None:
    naive = naively_cached(fetch)
    await naive("a")
    await naive(url="a")
    await naive("a", 10)
    assert len(RUNS) == 3
    same = naively_cached(echo)
    assert [repr(await same(value)) for value in (1, True, 1.0)] == ["1", "1", "1"]
    assert await same("x") is await same("x")
    with pytest.raises(TypeError):
        await same({"unhashable": 1})

    async def slow() -> None:
        RUNS.append("slow")
        await anyio.lowlevel.checkpoint()

    RUNS.clear()
    once = naively_cached(slow)
    await asyncio.gather(*(once() for _ in range(10)))
    assert len(RUNS) == 10


async def test_arguments_of_different_types_are_different(cache: TieredCache) -> None:
    cached = cache.cached()(echo)
    for _ in range(2):
        found = [await cached(value) for value in (1, True, 1.0, [1], (1,), None)]
        assert [repr(each) for each in found] == ["1", "True", "1.0", "[1]", "(1,)", "None"]
    assert len(RUNS) == 6


# --- settings ---------------------------------------------------------------------------------------------------------


async def test_ttl_and_grace_are_those_of_get_or_compute(cache: TieredCache, store: FaultyStore) -> None:
    await cache.cached(ttl=7, grace=2)(echo)("a")
    await cache.namespace("n", ttl=9).cached()(echo)("a")
    assert isinstance(store.inner, DictStore)
    assert [(kept.entry.ttl, kept.entry.grace) for kept in store.inner.rows.values()] == [(7000, 2000), (9000, 0)]


async def test_functions_versions_and_namespaces_are_kept_apart(cache: TieredCache) -> None:
    for decorate in (
        cache.cached(),
        cache.cached(version="2"),
        cache.cached(namespace="n"),
        cache.cached(namespace=("n", "m")),
        cache.namespace("tenant").cached(),
    ):
        cached = decorate(echo)
        for _ in range(2):
            assert await cached("a") == "a"
    assert len(RUNS) == 5
    assert cache.cached(namespace=("n", "m"), version="2")(echo).cache.path == ("n", "m", "tests.test_cached:echo", "2")
    await cache.namespace("n").clear()
    assert await cache.cached(namespace="n")(echo)("a") == "a"
    assert len(RUNS) == 6


async def test_arguments_that_are_ignored_do_not_count(cache: TieredCache) -> None:
    cached = cache.cached(ignore=("verbose", "config"))(fetch)
    await cached("a", verbose=True, config=object())
    await cached("a", config={"callbacks": [print]})
    assert len(RUNS) == 1
    await cached("a", config=1, other=2)
    assert len(RUNS) == 2


def lowered(url: str, **_: object) -> str:
    return url.lower()


async def test_a_key_of_ones_own_decides(cache: TieredCache) -> None:
    cached = cache.cached(key=lowered)(fetch)
    await cached("A", verbose=True)
    await cached("a", config=object())
    assert len(RUNS) == 1
    assert cached.key_for("A") == "a"


async def test_a_result_that_is_skipped_is_returned_to_all_who_wait_and_not_kept(cache: TieredCache) -> None:
    gate = Gate()
    results: list[Any] = []

    @cache.cached(namespace="n", skip=lambda found: not found)
    async def search(query: str) -> list[str]:
        RUNS.append(query)
        await gate.wait()
        return []

    async def ask() -> None:
        results.append(await search("q"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await gate.reached()
        await anyio.wait_all_tasks_blocked()
        gate.open()
    assert results == [[]] * 3
    assert RUNS == ["q"]
    assert await search("q") == []
    assert RUNS == ["q", "q"]


async def test_skip_of_get_or_compute(cache: TieredCache) -> None:
    async def compute(value: Any) -> Any:
        RUNS.append(value)
        return value

    skip: Callable[[Any], bool] = lambda value: not isinstance(value, str)  # noqa: E731
    odd = object()
    for value in (None, 1, odd, "a", "b"):
        found = await cache.get_or_compute("k", functools.partial(compute, value), skip=skip)
        assert found == ("a" if value == "b" else value)
    assert [None, 1, odd, "a"] == RUNS
    assert await anyio.to_thread.run_sync(lambda: cache.sync.get_or_compute("l", lambda: 1, skip=skip)) == 1
    assert await cache.get("l") is None
    assert cache.stats().sets == 1


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Odd:
    pass


async def test_what_the_codec_cannot_carry_is_returned_to_everybody_and_counted(
    cache: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    @cache.cached(namespace="n")
    async def odd(name: str) -> Odd:
        RUNS.append(name)
        await gate.wait()
        return Odd()

    results: list[Odd] = []

    async def ask() -> None:
        results.append(await odd("secret"))

    with caplog.at_level(logging.DEBUG, "tiered_cache"):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await gate.reached()
            await anyio.wait_all_tasks_blocked()
            gate.open()
    assert [type(each) for each in results] == [Odd] * 3
    assert len(RUNS) == 3  # who waited for the first computed himself
    assert cache.stats().unsupported == 1
    assert "tests.test_cached.Odd" in caplog.text
    assert "secret" not in caplog.text


def test_nor_does_it_cost_a_synchronous_caller_the_result(cache: TieredCache) -> None:
    @cache.cached(namespace="n")
    def odd() -> Odd:
        RUNS.append("odd")
        return Odd()

    assert isinstance(odd(), Odd)
    assert len(RUNS) == 1
    assert cache.stats().unsupported == 1


@pytest.mark.parametrize("error", [LookupError("no such page"), UnsupportedValueError("of a cache of its own")])
async def test_an_error_of_the_function_is_the_callers_and_raised_once(cache: TieredCache, error: Exception) -> None:
    """Also where it looks like one of this cache."""
    with pytest.raises(type(error)) as caught:
        await cache.cached(key=lambda *_: "k")(functools.partial(raising, error))()
    assert caught.value is error
    assert [error] == RUNS
    assert cache.stats().unsupported == 0


async def raising(error: Exception) -> None:
    RUNS.append(error)
    raise error


async def test_without_a_store_the_function_runs(cache: TieredCache, store: FaultyStore) -> None:
    store.down = True
    cached = cache.cached()(fetch)
    assert await cached("a") == {"url": "a", "limit": 10}
    assert await anyio.to_thread.run_sync(cache.cached()(read), "a") == ["a", 10]
    assert len(RUNS) == 2


async def test_an_argument_without_a_key_is_an_error_that_names_it_and_nothing_runs(cache: TieredCache) -> None:
    with pytest.raises(UnsupportedValueError, match=r"^value\['a'\]: .*tests\.test_cached:Odd .*cached\(ignore="):
        await cache.cached()(echo)({"a": Odd()})
    with pytest.raises(TypeError, match="missing a required argument: 'url'"):
        await cache.cached()(fetch)(limit=1)  # pyright: ignore[reportCallIssue]
    assert RUNS == []


async def generated() -> AsyncGenerator[int]:
    yield 1


def generated_too() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        pytest.param(generated, {}, "generated is a generator", id="async generator"),
        pytest.param(generated_too, {}, "generated_too is a generator", id="generator"),
        pytest.param(functools.partial(generated_too), {}, "is a generator", id="partial of a generator"),
        pytest.param(Odd, {}, "not a type", id="class"),
        pytest.param(functools.partial(Odd), {}, "not a type", id="partial of a class"),
        pytest.param(Odd(), {}, "not a Odd", id="object"),
        pytest.param(lambda: 1, {}, r"<lambda> is not known by its name.*namespace=", id="lambda"),
        pytest.param(read, {"ignore": "pth"}, "read has no argument pth to ignore", id="ignored by a wrong name"),
        pytest.param(read, {"ignore": "path", "key": str}, "not both", id="key and ignore"),
        pytest.param(read, {"ttl": 0}, "ttl", id="ttl"),
        pytest.param(read, {"grace": 1}, "give a ttl as well", id="grace without ttl"),
        pytest.param(read, {"wait": -1}, "wait is a number", id="wait"),
        pytest.param(read, {"namespace": (1,)}, "str segments", id="namespace"),
    ],
)
def test_what_cannot_work_is_refused_when_it_decorates(
    cache: TieredCache, function: Any, settings: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        cache.cached(**settings)(function)


async def test_a_function_that_uses_what_is_round_it_must_be_named(cache: TieredCache) -> None:
    """Two of one name would share their results."""

    def make(n: int) -> Any:
        async def add(x: int) -> int:
            return x + n

        return add

    with pytest.raises(ConfigurationError, match=r"add, which uses n of where it is defined, is not known by its name"):
        cache.cached()(make(1))
    one, hundred = (cache.cached(namespace=f"add {n}")(make(n)) for n in (1, 100))
    assert (await one(1), await hundred(1)) == (2, 101)

    def plain(n: int = 2) -> int:
        return n if n < 2 else plain(n - 1) + 1

    assert cache.cached()(plain).cache.path[-1].endswith("<locals>.plain")


# --- kinds of functions -----------------------------------------------------------------------------------------------

MODULE_CACHE = TieredCache(MemoryFront(), DictStore(identity="module"))


class Base:
    def loud(self, text: str) -> str:
        return text.upper()


class Service(Base):
    def __init__(self, url: str) -> None:
        self.url = url

    def __stable_key__(self) -> str:
        return self.url

    @MODULE_CACHE.cached()
    async def get(self, name: str) -> str:
        RUNS.append(name)
        return f"{self.url}/{name}"

    @MODULE_CACHE.cached(ignore="self")
    def shout(self, text: str) -> str:
        RUNS.append(text)
        return super().loud(text)

    @staticmethod
    @MODULE_CACHE.cached()
    def under_static(text: str) -> str:
        RUNS.append(text)
        return text

    @MODULE_CACHE.cached()
    @staticmethod
    def over_static(text: str) -> str:
        RUNS.append(text)
        return text

    @classmethod
    @MODULE_CACHE.cached()
    async def under_class(cls, text: str) -> str:
        RUNS.append(text)
        return f"{cls.__name__} {text}"


class Other(Service):
    pass


class Plain:
    @MODULE_CACHE.cached()
    async def get(self, name: str) -> str:
        return name


@pytest.fixture
async def module_cache() -> AsyncGenerator[TieredCache]:
    yield MODULE_CACHE
    await MODULE_CACHE.clear()


@pytest.mark.usefixtures("module_cache")
class TestMethods:
    async def test_of_equal_objects_share_and_of_others_do_not(self) -> None:
        found = [await Service(url).get(name="x") for url in ("a", "a", "b")]
        assert found == ["a/x", "a/x", "b/x"]
        assert len(RUNS) == 2
        await Service.get.invalidate(Service("a"), "x")
        assert await Service("a").get("x") == "a/x"
        assert len(RUNS) == 3

    async def test_an_object_may_be_ignored(self) -> None:
        assert [Service(url).shout("x") for url in ("a", "b")] == ["X", "X"]
        assert len(RUNS) == 1

    async def test_an_object_without_a_key_is_an_error_that_names_the_cures(self) -> None:
        with pytest.raises(UnsupportedValueError, match=r"^self: .*test_cached:Plain .*__stable_key__.*ignore="):
            await Plain().get("x")

    async def test_static_and_class_methods(self) -> None:
        for _ in range(2):
            assert Service.under_static("s") == Service("a").under_static("s") == "s"
            assert Service.over_static("o") == "o"
            assert getattr(Service("a"), "over_static")("o") == "o"  # noqa: B009
            assert await Service.under_class("c") == await Service("a").under_class("c") == "Service c"
            assert await Other.under_class("c") == "Other c"
        assert RUNS == ["s", "o", "c", "c"]

    async def test_a_class_method_below_the_decorator(self) -> None:
        class_method = cast("Any", classmethod(of_class))
        late: Any = type("Late", (), {"both": MODULE_CACHE.cached(ignore="cls")(class_method)})
        assert (late.both("x"), late().both("x")) == ("x", "x")
        assert RUNS == ["x"]

    async def test_a_bound_method_brings_its_object_along(self) -> None:
        bound = [MODULE_CACHE.cached()(functools.partial(Service.get.uncached, Service(url))) for url in ("a", "b")]
        assert [await each("x") for each in bound] == ["a/x", "b/x"]
        plain = [MODULE_CACHE.cached()(Service(url).get) for url in ("a", "b")]
        assert [await each("y") for each in plain] == ["a/y", "b/y"]


def of_class(cls: type, text: str) -> str:
    RUNS.append(text)
    return text


async def test_a_partial_is_its_function_with_some_arguments(cache: TieredCache) -> None:
    one, two = (cache.cached()(functools.partial(fetch, url)) for url in ("a", "b"))
    assert [await one(), await two()] == [{"url": "a", "limit": 10}, {"url": "b", "limit": 10}]
    assert await cache.cached()(fetch)("a") == {"url": "a", "limit": 10}
    assert len(RUNS) == 2
    assert str(inspect.signature(one)) == str(inspect.signature(functools.partial(fetch, "a")))
    keyed = cache.cached(key=lowered)(functools.partial(fetch, "A", verbose=True))
    assert keyed.key_for() == "a"


def test_it_stays_the_function_that_it_was(cache: TieredCache) -> None:
    cached, synchronous = cache.cached()(fetch), cache.cached()(read)
    assert inspect.iscoroutinefunction(cached)
    assert not inspect.iscoroutinefunction(synchronous)
    assert inspect.signature(cached) == inspect.signature(fetch)
    wrapped: Any = cached
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__module__) == ("fetch", "Fetches.", __name__)
    assert cached.uncached is fetch
    assert RUNS == []


async def test_checkers_of_types_see_the_same_signature(cache: TieredCache) -> None:
    @cache.cached(namespace="n")
    async def asynchronous(a: int, *, b: str = "") -> list[int]:
        return [a]

    def synchronous(a: int) -> str:
        return str(a)

    cached = cache.cached(namespace="n")(synchronous)
    assert_type(await asynchronous(1, b=""), list[int])
    assert_type(cached(1), str)
    both: tuple[AsyncCached[..., list[int]], Cached[[int], str]] = (asynchronous, cached)
    assert both[0].cache.path == ("n", both[0].cache.path[1])
    assert_type(await Service("u").get("x"), str)
    assert_type(Service("u").shout("x"), str)
    assert_type(Service.under_static("x"), str)
    assert_type(await Service.under_class("x"), str)
    with pytest.raises(UnsupportedValueError):
        await asynchronous(object())  # pyright: ignore[reportArgumentType]


# --- below a decorator of somebody else -------------------------------------------------------------------------------


def in_german(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def translating(text: str, language: str = "de") -> Any:
        return function(text, language)

    return translating


def in_german_too(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def translating(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{"language": "de", **kwargs})

    return translating


def connected(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def connecting(*args: Any, **kwargs: Any) -> Any:
        return function("a connection", *args, **kwargs)

    return connecting


def repeated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def repeating(*args: Any, attempts: int = 3, **kwargs: Any) -> Any:
        return [function(*args, **kwargs) for _ in range(attempts)]

    return repeating


@pytest.mark.parametrize("decorator", [in_german, in_german_too])
def test_defaults_are_those_of_the_decorator(cache: TieredCache, decorator: Any) -> None:
    @cache.cached()
    @decorator
    def translate(text: str, language: str = "en") -> str:
        return f"{text} in {language}"

    assert [translate("a"), translate("a", language="en")] == ["a in de", "a in en"]


def test_a_decorator_may_give_arguments_itself_and_have_some_of_its_own(cache: TieredCache) -> None:
    @cache.cached(ignore="connection")
    @connected
    def load(connection: str, number: int) -> Any:
        return [connection, number]

    @cache.cached()
    @repeated
    def double(number: int) -> int:
        return 2 * number

    assert [load(1), load(2), load(number=1)] == [["a connection", n] for n in (1, 2, 1)]
    assert [double(1), double(1, attempts=1), double(2)] == [[2, 2, 2], [2], [4, 4, 4]]


def test_one_call_below_a_decorator_has_one_key_however_it_is_written(cache: TieredCache) -> None:
    @cache.cached(ignore="verbose")
    @in_german_too
    def count(text: str, *, language: str = "", verbose: bool = False) -> None:
        pass

    assert count.key_for("a", verbose=True) == count.key_for(text="a")
    assert count.key_for("a") != count.key_for("b")


# --- whatever is the matter with what surrounds it, a result is returned ----------------------------------------------


def failing(_: Any) -> bool:
    raise KeyError("status")


async def test_a_result_that_skip_fails_on_is_returned_and_not_stored(
    cache: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    cached = cache.cached(skip=failing, ttl=60, grace=60)(echo)
    in_threads = cache.cached(skip=failing)(read)
    with caplog.at_level(logging.WARNING, "tiered_cache"):
        assert [await cached("a"), await cached("a")] == ["a", "a"]
        assert await anyio.to_thread.run_sync(in_threads, "b") == ["b", 10]
    assert RUNS == ["a", "a", ("b", 10)]
    assert "skip raised KeyError" in caplog.text
    assert "status" not in caplog.text


def test_skip_is_no_asynchronous_function(cache: TieredCache) -> None:
    with pytest.raises(ConfigurationError, match="not async"):
        cache.cached(skip=cast("Any", echo))


class Refusing(PlainCodec):
    def encode(self, value: Any) -> bytes:
        raise TypeError(f"cannot pickle {value}")


async def test_a_result_that_the_codec_fails_on_is_returned(store: FaultyStore) -> None:
    cache = TieredCache(MemoryFront(), store, codec=Refusing(), front_timeout=PATIENCE_SECONDS)
    assert await cache.cached()(echo)("secret") == "secret"
    assert cache.stats().unsupported == 1
    with pytest.raises(UnsupportedValueError, match="TypeError") as raised:
        await cache.set("k", "secret")
    assert "secret" not in str(raised.value)
