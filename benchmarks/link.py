"""A line of limited speed between clients and a server on this machine: all connections together get `rate` bytes/s.

nginx limits each connection by itself, which says nothing of a client that opens many. The relay is a process of its
own:

    with Link("127.0.0.1:8080", 20e6) as link:
        link.url
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

_BITE = 1 << 16
_CATCH_UP = 0.05  # seconds of being late that are made good
_ROOT = Path(__file__).parents[1]


class Link:
    """The line, as long as the `with` block lasts."""

    def __init__(self, server: str, rate: float) -> None:
        """`server` is the URL of what is behind it, `rate` in bytes/s."""
        command = [sys.executable, "-m", "benchmarks.link", urlsplit(server).netloc, str(rate)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)

    def __enter__(self) -> Link:
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Line:
    """What all connections share."""

    def __init__(self, host: str, port: int, rate: float) -> None:
        self._server, self._rate = (host, port), rate
        self._due = 0.0  # when the latest byte was through

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection's bytes both ways; only those to the client are many."""
        back, forth = await asyncio.open_connection(*self._server)
        try:
            await asyncio.gather(self._carry(reader, forth, limited=False), self._carry(back, writer, limited=True))
        except OSError:
            pass  # one side hung up
        finally:
            for end in (writer, forth):
                end.close()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, limited: bool) -> None:
        while block := await source.read(_BITE):
            if limited:
                await self._wait(len(block))
            target.write(block)
            await target.drain()
        target.write_eof()

    async def _wait(self, count: int) -> None:
        clock = asyncio.get_running_loop().time
        self._due = max(self._due, clock() - _CATCH_UP) + count / self._rate
        if (wait := self._due - clock()) > 0:
            await asyncio.sleep(wait)


async def _main(server: str, rate: str) -> None:
    host, _, port = server.partition(":")
    line = _Line(host, int(port), float(rate))
    listening = await asyncio.start_server(line.accept, "127.0.0.1", 0, limit=1 << 18)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
