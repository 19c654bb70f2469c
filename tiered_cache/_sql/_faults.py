"""Errors of drivers become StoreUnavailableError: what failed and what to look at, but nothing that was stored."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, DisconnectionError, NoResultFound
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tiered_cache._errors import StoreUnavailableError

#: Classes of SQLSTATE after which a change may have been committed all the same: the connection broke (08), or the
#: server was stopped (57P).
_BROKEN: Final = ("08", "57P")

_MISSING_TABLES: Final = "its tables are not there: make them with setup (or apply the output of ddl())"
_UNREACHABLE: Final = "is the server running and reachable, and is its URL right?"
_HINTS: Final = {
    "28": "the server refused the user or the password",
    "3D000": "there is no such database",
    "42501": "the user lacks a permission",
    "42P01": _MISSING_TABLES,
    "53300": "the server takes no more connections: lower store_connections, or raise max_connections there",
    "53": "the server is short of disk or memory",
    "57014": "a statement took longer than it may",
    "08P01": "a connection pooler that refuses statement_timeout? Then pass an engine of your own",
    "08": "the connection broke",
    "57P": "the server is starting or stopping",
}
_SQLITE_HINTS: Final = {
    "no such table": _MISSING_TABLES,
    "is locked": "another process is writing for longer than the timeout",
    "unable to open": "the file cannot be opened: is its directory there, and writable?",
    "readonly": "the file cannot be written to",
    "is full": "the disk is full",
    "not a database": "the file is no SQLite database",
}


def is_fault(error: BaseException) -> bool:
    """Whether an exception says that a database did not do what it was asked: not a mistake of ours."""
    if isinstance(error, DBAPIError | PoolTimeoutError | DisconnectionError | NoResultFound | OSError | sqlite3.Error):
        return True
    # asyncpg's own errors come through while it is connecting. Where it is not loaded, nobody can have raised them.
    asyncpg: Any = sys.modules.get("asyncpg")
    return asyncpg is not None and isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)


def unavailable(error: Exception, *, begun: bool, changing: bool) -> StoreUnavailableError:
    """The error to raise (`from` the fault). `begun`: a connection was had and statements may have been sent."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = _sqlstate(cause)
    hint = _hint(cause, state) or (None if begun else _UNREACHABLE)
    message = f"the store did not answer ({type(cause).__name__}{f' {state}' if state else ''})"
    return StoreUnavailableError(
        f"{message}: {hint}" if hint else message, outcome_known=not (begun and changing) or _was_refused(cause, state)
    )


def _was_refused(cause: BaseException, state: str | None) -> bool:
    """Whether the database itself said that the change was not made."""
    if isinstance(cause, sqlite3.Error):
        return True
    if isinstance(cause, NoResultFound):  # not even the counter is there
        return True
    return state is not None and not state.startswith(_BROKEN)


def _sqlstate(cause: BaseException) -> str | None:
    for name in ("sqlstate", "pgcode"):
        state = getattr(cause, name, None)
        if isinstance(state, str):
            return state
    return None


def _hint(cause: BaseException, state: str | None) -> str | None:
    if isinstance(cause, PoolTimeoutError):
        return "no connection became free within the timeout"
    if isinstance(cause, TimeoutError):
        return "no answer within the timeout"
    if isinstance(cause, NoResultFound):
        return _MISSING_TABLES
    if isinstance(cause, OSError):
        return _UNREACHABLE
    if isinstance(cause, sqlite3.Error):
        return next((hint for words, hint in _SQLITE_HINTS.items() if words in str(cause)), None)
    if state is not None:
        return next((_HINTS[state[:n]] for n in (5, 3, 2) if state[:n] in _HINTS), None)
    return None
