"""The process behind `benchmarks.shaped`: serves files at the pace that each mirror was given.

Speaks JSON, a line for a line: first what to serve, then `counts` or `reset`; ends with its input. A byte is sent when
it would have come to the end of its way, and a process that woke up late catches up, so rates hold on average. Knows
nothing of who asks.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from contextlib import suppress
from typing import Any

from benchmarks.farm import REGION, Answer, Bucket, Farm, Mirror

_TICK = 0.04  # seconds of work in one write
_CATCH_UP = 0.25  # seconds of being late that are made good
_IDLE = 1.0  # seconds after which a connection starts slowly again


class _Connection:
    """One client's connection to one mirror."""

    def __init__(self, mirror: Mirror, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._mirror = mirror
        self._shape = mirror.shape
        self._reader = reader
        self._writer = writer
        self._clock = asyncio.get_running_loop().time
        self._window = float(self._shape.window)
        self._due = self._clock()  # when its latest byte was through

    async def run(self) -> None:
        # Cancelled is what everything is when the process ends.
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError)
        with suppress(*ends):
            await asyncio.sleep(self._shape.rtt)  # the handshake
            while not self._writer.is_closing():
                head = await self._reader.readuntil(b"\r\n\r\n")
                self._mirror.requests += 1
                await self._respond(head.decode("latin-1"))
        self._writer.transport.abort()

    async def _respond(self, head: str) -> None:
        request, *lines = head.split("\r\n")
        method, path, _ = request.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._shape.fault == "hang":
            await self._silence()
        await self._fail_if_due()
        answer = self._mirror.answer(path, headers)
        await asyncio.sleep(self._shape.rtt + self._shape.first_byte)
        if answer.name:
            await self._until(self._mirror.here_at(answer.name, self._clock()))
        told = f"Content-Type: {answer.type}\r\nContent-Length: {len(answer.body)}\r\n{answer.headers}"
        self._writer.write(f"HTTP/1.1 {answer.status}\r\n{told}\r\n".encode())
        if method != "HEAD":
            await self._send(answer)

    async def _send(self, answer: Answer) -> None:
        now = self._clock()
        if now - self._due > _IDLE:
            self._window = self._shape.window
        self._due = now
        position, mirror = 0, self._mirror
        while position < len(answer.body) and not self._writer.is_closing():
            place = answer.start + position
            cold = mirror.cold(answer.name, place)
            count = min(self._bite(mirror.origin if cold else mirror.pipe), REGION - place % REGION)
            block = answer.body[position : position + count]
            await self._until(self._through(len(block), cold))
            await self._fail_if_due()
            self._writer.write(block)
            await self._writer.drain()
            position += len(block)
            if answer.name:
                mirror.sent(answer.name, len(block), answer.start + position)

    def _pace(self) -> float:
        """Bytes/s that this connection alone could do now."""
        capped = self._shape.connection_rate or math.inf
        return min(capped, self._window / self._shape.rtt) if self._shape.rtt else capped

    def _bite(self, shared: Bucket) -> int:
        """How much to write at once: little enough that the others get their turn."""
        pace = min(self._pace(), shared.rate, self._mirror.farm.link.rate)
        return int(min(max(pace * _TICK, 1024.0), 1 << 17))

    def _through(self, count: int, cold: bool) -> float:
        """When so many bytes have passed the connection, the mirror and the client's line."""
        mirror, begins = self._mirror, max(self._due, self._clock() - _CATCH_UP)
        shared = [mirror.pipe, mirror.farm.link, mirror.origin] if cold else [mirror.pipe, mirror.farm.link]
        self._due = max(begins + count / self._pace(), *(bucket.through(count, begins) for bucket in shared))
        self._window += count * math.log(2)  # so that it doubles in a round trip
        return self._due

    async def _until(self, time: float) -> None:
        wait = time - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
            self._mirror.farm.lag = max(self._mirror.farm.lag, self._clock() - time)

    async def _fail_if_due(self) -> None:
        if not self._mirror.failed:
            return
        if self._shape.fault == "dies":
            raise ConnectionAbortedError
        await self._silence()

    async def _silence(self) -> None:
        """Say nothing until the client hangs up."""
        while not self._reader.at_eof():
            await self._reader.read(1 << 16)
        raise ConnectionAbortedError


async def _start(farm: Farm) -> dict[str, Any]:
    """Listen for all mirrors; what the other side needs to know."""
    for mirror in farm.mirrors:
        server = await asyncio.start_server(_accept(mirror), "127.0.0.1", 0, backlog=256)
        mirror.port = server.sockets[0].getsockname()[1]
    return {"ports": [mirror.port for mirror in farm.mirrors], "sha256": farm.sha256}


def _accept(mirror: Mirror) -> Any:
    return lambda reader, writer: _Connection(mirror, reader, writer).run()


async def _main() -> None:
    commands = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    farm = Farm(json.loads(await commands.readline()))
    print(json.dumps(await _start(farm)), flush=True)
    while line := await commands.readline():
        print(json.dumps(farm.command(line.decode().strip())), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
