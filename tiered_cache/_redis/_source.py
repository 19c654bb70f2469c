"""Where a Redis is and how it is spoken to: from a URL, or from a client that somebody has configured already."""

from __future__ import annotations

from importlib import import_module
from re import fullmatch
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel

from tiered_cache._errors import ConfigurationError

_FORMS: Final = (
    "redis://[user:password@]host:port/db, rediss://... (TLS), unix:///path?db=0, or a client: redis.Redis or "
    "redis.asyncio.Redis, for a single server (no Cluster, no Sentinel)"
)

# Set here for every connection, or bound to the client, the pool or the loop that a connection was configured for.
_NOT_TAKEN_OVER: Final = (
    *("connection_class", "connection_pool", "max_connections", "timeout", "queue_class"),
    *("decode_responses", "encoding", "encoding_errors", "encoder_class", "parser_class", "protocol"),
    *("legacy_responses", "command_packer", "socket_timeout", "socket_connect_timeout", "health_check_interval"),
    *("retry", "retry_on_error", "retry_on_timeout", "event_dispatcher", "himport_registry"),
)
_NOT_TAKEN_OVER_PREFIXES: Final = ("maint_", "maintenance_", "oss_cluster_", "orig_")
_NONE_IS_A_SETTING: Final = ("lib_name", "lib_version", "driver_info")  # not to name the library to the server
_OCSP: Final = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled")  # redis-py has them for sync connections only

_TWINS: Final[dict[type[Any], type[Any]]] = {
    redis.connection.Connection: redis.asyncio.connection.Connection,
    redis.connection.SSLConnection: redis.asyncio.connection.SSLConnection,
    redis.connection.UnixDomainSocketConnection: redis.asyncio.connection.UnixDomainSocketConnection,
}
_SENTINELS: Final = (
    redis.sentinel.SentinelManagedConnection,
    redis.asyncio.sentinel.SentinelManagedConnection,
)


class Source(NamedTuple):
    """How to make a connection, and where it leads (without a password)."""

    connection_class: type[Any]
    settings: dict[str, Any]
    place: str


def resolve(source: object) -> Source:
    """Raises ConfigurationError for what is no way to a single Redis server."""
    pool: Any
    if isinstance(source, str):
        try:
            _check(source)
            pool = cast("Any", redis.asyncio.ConnectionPool).from_url(source)
        except ValueError:
            # Without the cause, which quotes pieces of a URL that may be pieces of a password.
            raise ConfigurationError(
                f"the URL of the front cannot be read (special characters in a password are written as %XX): {_FORMS}"
            ) from None
    elif isinstance(source, (redis.Redis, redis.asyncio.Redis)):
        pool = source.connection_pool
    else:
        raise ConfigurationError(f"a Redis front is given as {_FORMS}; not as {type(source).__name__}")
    given: dict[str, Any] = pool.connection_kwargs
    connection_class = _asynchronous(pool.connection_class, given)
    settings = {name: value for name, value in given.items() if _taken_over(name, value)}
    settings.update(decode_responses=False, protocol=2, socket_timeout=None, socket_connect_timeout=None)
    return Source(connection_class, settings, _place(given))


def _check(url: str) -> None:
    """Raises ValueError for what redis-py would read as another server or database than was meant, without a word."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return
    fields = parts.query.split("&") if parts.query else []
    if (
        (parts.netloc and not parts.hostname)
        or not fullmatch(r"/?\d*", parts.path)
        or parts.fragment
        or not all("=" in field for field in fields)
    ):
        raise ValueError("not of the form scheme://user:password@host:port/db?name=value")


def _asynchronous(connection_class: type[Any], given: dict[str, Any]) -> type[Any]:
    if issubclass(connection_class, _SENTINELS):
        raise ConfigurationError(f"a client that finds its server by Sentinel is not supported; there are {_FORMS}")
    if issubclass(connection_class, redis.asyncio.connection.AbstractConnection):
        return connection_class
    if given.get("redis_connect_func") is not None:
        raise ConfigurationError("a redis_connect_func of a synchronous client cannot be used: give an asyncio client")
    if connection_class.__module__.startswith("fakeredis."):
        return import_module("fakeredis").FakeAsyncRedis().connection_pool.connection_class
    twin = _TWINS.get(connection_class)
    if twin is None:
        raise ConfigurationError(
            f"{connection_class.__qualname__} has no asyncio counterpart in redis-py: give an asyncio client"
        )
    return twin


def _taken_over(name: str, value: object) -> bool:
    if name in _NOT_TAKEN_OVER or name.startswith(_NOT_TAKEN_OVER_PREFIXES):
        return False
    if value is None:
        return name in _NONE_IS_A_SETTING
    return not (name in _OCSP and value is False)


def _place(given: dict[str, Any]) -> str:
    where = given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
    return f"{where}/{given.get('db') or 0}"
