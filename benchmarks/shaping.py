"""The process behind `benchmarks.shaped`: serves files at the pace that each mirror was given.

Speaks JSON, a line for a line: first what to serve, then `counts` or `reset`; ends with its input. A byte is sent when
it would have come to the end of its way, and a process that woke up late catches up, so rates hold on average. Knows
nothing of who asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.shaped import File, Shape

_JSON = "application/vnd.pypi.simple.v1+json"
_REGION = 1 << 16  # what a cache remembers at once
_TICK = 0.04  # seconds of work in one write
_CATCH_UP = 0.25  # seconds of being late that are made good
_IDLE = 1.0  # seconds after which a connection starts slowly again
_TAMPER_EVERY = 1 << 16
_PORTAL = b"<html><body><a href='/login'>Log in to use this network</a></body></html>"


@dataclass
class _Answer:
    status: str
    type: str
    body: bytes | memoryview = b""
    headers: str = ""
    name: str = ""  # the file that the body is of
    start: int = 0


class _Bucket:
    """What is shared at a rate: says when the next bytes are through."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate or math.inf
        self._free = 0.0

    def through(self, count: int, begins: float) -> float:
        self._free = max(self._free, begins) + count / self.rate
        return self._free


class _Mirror:
    """One mirror: its pages, its files, its faults, and what was asked of it."""

    def __init__(self, shape: Shape, farm: _Farm) -> None:
        self.shape = shape
        self.farm = farm
        self.port = 0
        self.pipe = _Bucket(shape.rate)
        self.reset()

    def reset(self) -> None:
        self.requests = 0
        self.file_bytes = 0
        self.origin = _Bucket(self.shape.cold_rate)
        self._warm: set[tuple[str, int]] = set()
        self._here_at: dict[str, float] = dict.fromkeys(self.shape.hot, 0.0)

    @property
    def failed(self) -> bool:
        """Whether it sent all that it will."""
        return self.shape.fault in ("dies", "stalls") and self.file_bytes >= self.shape.after

    def here_at(self, name: str, now: float) -> float:
        """When a file that was not in the cache is."""
        return self._here_at.setdefault(name, now + self.shape.cold_wait)

    def cold(self, name: str, position: int) -> bool:
        """Whether a place in a file was never read before."""
        if self.shape.cold_rate is None or name in self.shape.hot or not name:
            return False
        return (name, position // _REGION) not in self._warm

    def sent(self, name: str, count: int, end: int) -> None:
        """Note that so many bytes of a file went out, up to a place in it."""
        self.file_bytes += count
        if end % _REGION == 0 or end == len(self.farm.contents[name]):
            self._warm.add((name, (end - 1) // _REGION))

    def answer(self, path: str, headers: Mapping[str, str]) -> _Answer:
        fault = self.shape.fault
        if fault == "portal":
            return _Answer("200 OK", "text/html", _PORTAL)
        if fault == "forbidden" and "uv/" in headers.get("user-agent", ""):
            return _Answer("403 Forbidden", "text/plain", b"no\n")
        kind, _, name = path.strip("/").partition("/")
        if kind == "simple":
            return self._page(name, _JSON in headers.get("accept", ""))
        if kind != "files" or name not in self.farm.contents or fault == "stale":
            return _Answer("404 Not Found", "text/plain", b"not here\n")
        if fault == "redirect":
            return _Answer("302 Found", "text/plain", headers=f"Location: {self._link(name)}\r\n")
        return self._file(name, headers.get("range", ""))

    def _file(self, name: str, wanted: str) -> _Answer:
        content = self._content(name)
        extent = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        kind, accepts = "application/octet-stream", "Accept-Ranges: bytes\r\n"
        if not extent:
            return _Answer("200 OK", kind, content, accepts, name)
        start, end = int(extent[1]), min(int(extent[2] or len(content)) + 1, len(content))
        if start >= end:
            return _Answer("416 Range Not Satisfiable", kind, b"", f"Content-Range: bytes */{len(content)}\r\n")
        said = f"Content-Range: bytes {start}-{end - 1}/{len(content)}\r\n"
        return _Answer("206 Partial Content", kind, content[start:end], accepts + said, name, start)

    def _content(self, name: str) -> memoryview:
        if self.shape.fault == "tamper":
            return self.farm.tampered(name)
        if self.shape.fault == "size":
            return memoryview(bytes(self.farm.contents[name]) + b"more")
        return self.farm.contents[name]

    def _page(self, project: str, as_json: bool) -> _Answer:
        files = [file for file in self.farm.files if file.project == project.strip("/")]
        if not files:
            return _Answer("404 Not Found", "text/plain", b"not here\n")
        if as_json:
            listed = [
                {
                    "filename": self._name(file),
                    "url": self._link(self._name(file)),
                    "hashes": {"sha256": self._sha256(file)},
                }
                for file in files
            ]
            page = {"meta": {"api-version": "1.1"}, "name": files[0].project, "versions": [], "files": listed}
            return _Answer("200 OK", _JSON, json.dumps(page).encode())
        links = [
            f'<a href="{self._link(self._name(file))}#sha256={self._sha256(file)}">{self._name(file)}</a>'
            for file in files
        ]
        return _Answer("200 OK", "text/html", f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode())

    def _name(self, file: File) -> str:
        return file.name.replace("-1.0-", "-0.9-") if self.shape.fault == "stale" else file.name

    def _sha256(self, file: File) -> str:
        return self.farm.sha256[file.name] if self.shape.fault != "stale" else hashlib.sha256(b"older").hexdigest()

    def _link(self, name: str) -> str:
        elsewhere = self.shape.fault in ("redirect", "links")
        port = self.farm.mirrors[self.shape.target].port if elsewhere else self.port
        return f"http://127.0.0.1:{port}/files/{name}"


class _Connection:
    """One client's connection to one mirror."""

    def __init__(self, mirror: _Mirror, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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

    async def _send(self, answer: _Answer) -> None:
        now = self._clock()
        if now - self._due > _IDLE:
            self._window = self._shape.window
        self._due = now
        position, mirror = 0, self._mirror
        while position < len(answer.body) and not self._writer.is_closing():
            place = answer.start + position
            cold = mirror.cold(answer.name, place)
            count = min(self._bite(mirror.origin if cold else mirror.pipe), _REGION - place % _REGION)
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

    def _bite(self, shared: _Bucket) -> int:
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


class _Farm:
    """All mirrors, and the files that they share."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.files = [File(**file) for file in config["files"]]
        self.contents = {file.name: memoryview(file.content()) for file in self.files}
        self.sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in self.contents.items()}
        self.link = _Bucket(config["link"])
        self.lag = 0.0
        self.mirrors = [_Mirror(Shape(**shape), self) for shape in config["shapes"]]
        self._tampered: dict[str, memoryview] = {}

    def tampered(self, name: str) -> memoryview:
        """Other bytes than the file's, of the right length and with the right beginning."""
        if name not in self._tampered:
            content = bytearray(self.contents[name])
            for position in (*range(_TAMPER_EVERY - 1, len(content), _TAMPER_EVERY), len(content) - 1):
                content[position] ^= 1
            self._tampered[name] = memoryview(bytes(content))
        return self._tampered[name]

    async def start(self) -> dict[str, Any]:
        for mirror in self.mirrors:
            server = await asyncio.start_server(self._accept(mirror), "127.0.0.1", 0, backlog=256)
            mirror.port = server.sockets[0].getsockname()[1]
        return {"ports": [mirror.port for mirror in self.mirrors], "sha256": self.sha256}

    def command(self, line: str) -> dict[str, Any]:
        if line == "reset":
            self.lag = 0.0
            for mirror in self.mirrors:
                mirror.reset()
        return {"counts": [(mirror.requests, mirror.file_bytes) for mirror in self.mirrors], "lag": self.lag}

    @staticmethod
    def _accept(mirror: _Mirror) -> Any:
        return lambda reader, writer: _Connection(mirror, reader, writer).run()


async def _main() -> None:
    commands = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    farm = _Farm(json.loads(await commands.readline()))
    print(json.dumps(await farm.start()), flush=True)
    while line := await commands.readline():
        print(json.dumps(farm.command(line.decode().strip())), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
