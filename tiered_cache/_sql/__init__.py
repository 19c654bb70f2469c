"""The durable tier in a SQL database, by SQLAlchemy Core: PostgreSQL and SQLite."""

from __future__ import annotations

from ._schema import ddl
from ._store import SqlStore

__all__ = ["SqlStore", "ddl"]
