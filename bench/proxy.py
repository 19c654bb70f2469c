"""A TCP proxy in a process of its own, which makes a tier slow, silent or unreachable without touching the server.

proxy = Proxy("127.0.0.1", 6379)
await proxy.start()
proxy.delay(0.05)       # every reply comes so much later
proxy.freeze()          # connections stay, new ones are taken, nothing is answered (SIGSTOP)
proxy.thaw()
await proxy.kill()      # refused
await proxy.start()     # again, on the same port
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

from sqlalchemy.engine import make_url

from tests.servers import free_port

from .refusal import Refusal

_CHUNK = 1 << 16


class Proxy:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it takes connections."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.proxy", str(self.port), self._target[0], str(self._target[1])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        await self._process.stdout.readline()

    def delay(self, seconds: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n".encode())

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def instead_of(self, url: str) -> str:
        """The same URL, by way of this proxy."""
        return make_url(url).set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)


def proxy_for(url: str, default_port: int) -> Proxy:
    """Raises Refusal for what is not reached by TCP."""
    parsed = make_url(url)
    if not parsed.host:
        raise Refusal(f"a slow or dead tier is played by a TCP proxy: give {parsed.drivername} a host and a port")
    return Proxy(parsed.host, parsed.port or default_port)


# --- the process ------------------------------------------------------------------------------------------------------


class _Relay:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._delay = 0.0

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", port)
        print("ready", flush=True)
        async with server:
            await self._obey()

    async def _obey(self) -> None:
        """Takes delays from stdin; its end ends the proxy, with whoever started it."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._delay = float(line)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        with suppress(OSError):
            there = asyncio.create_task(self._copy(reader, to_writer, late=False))
            await self._copy(to_reader, writer, late=True)
            there.cancel()
        writer.close()
        to_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        loop = asyncio.get_running_loop()
        moment = 0.0
        while data := await reader.read(_CHUNK):
            if late and self._delay:
                moment = max(moment, loop.time() + self._delay)  # in order, however the delay changes
                loop.call_at(moment, writer.write, data)
            elif moment > loop.time():
                loop.call_at(moment, writer.write, data)
            else:
                writer.write(data)
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    with suppress(asyncio.CancelledError):
        asyncio.run(_Relay(sys.argv[2], int(sys.argv[3])).serve(int(sys.argv[1])))
