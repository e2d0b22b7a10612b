"""What the mirrors of `benchmarks.shaped` answer, and what they remember: pages, files, faults, caches and counts.

Knows nothing of connections, or of how fast an answer goes out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.shaped import File, Shape

REGION = 1 << 16  # bytes that a cache remembers at once
_JSON = "application/vnd.pypi.simple.v1+json"
_TAMPER_EVERY = 1 << 16
_PORTAL = b"<html><body><a href='/login'>Log in to use this network</a></body></html>"


@dataclass
class Answer:
    """What goes out for a request. `headers` are whole lines, and `start` is the place in the file `name`."""

    status: str
    type: str
    body: bytes | memoryview = b""
    headers: str = ""
    name: str = ""
    start: int = 0


class Bucket:
    """What is shared at a rate: says when the next bytes are through."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate or math.inf
        self._free = 0.0

    def through(self, count: int, begins: float) -> float:
        """When so many bytes are through that wait from `begins` on, in seconds of the caller's clock."""
        self._free = max(self._free, begins) + count / self.rate
        return self._free


class Mirror:
    """One mirror: its pages, its files, its faults, and what was asked of it."""

    def __init__(self, shape: Shape, farm: Farm) -> None:
        self.shape = shape
        self.farm = farm
        self.port = 0
        self.pipe = Bucket(shape.rate)
        self.reset()

    def reset(self) -> None:
        """As at the start: cold, unasked, alive."""
        self.requests = 0
        self.file_bytes = 0
        self.origin = Bucket(self.shape.cold_rate)
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
        return (name, position // REGION) not in self._warm

    def sent(self, name: str, count: int, end: int) -> None:
        """Note that so many bytes of a file went out, up to a place in it."""
        self.file_bytes += count
        if end % REGION == 0 or end == len(self.farm.contents[name]):
            self._warm.add((name, (end - 1) // REGION))

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        """What a request gets, faults included. Header names are in lower case."""
        fault = self.shape.fault
        if fault == "portal":
            return Answer("200 OK", "text/html", _PORTAL)
        if fault == "forbidden" and "uv/" in headers.get("user-agent", ""):
            return Answer("403 Forbidden", "text/plain", b"no\n")
        kind, _, name = path.strip("/").partition("/")
        if kind == "simple":
            return self._page(name, _JSON in headers.get("accept", ""))
        if kind != "files" or name not in self.farm.contents or fault == "stale":
            return Answer("404 Not Found", "text/plain", b"not here\n")
        if fault == "redirect":
            return Answer("302 Found", "text/plain", headers=f"Location: {self._link(name)}\r\n")
        return self._file(name, headers.get("range", ""))

    def _file(self, name: str, wanted: str) -> Answer:
        content = self._content(name)
        extent = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        kind, accepts = "application/octet-stream", "Accept-Ranges: bytes\r\n"
        if not extent:
            return Answer("200 OK", kind, content, accepts, name)
        start, end = int(extent[1]), min(int(extent[2] or len(content)) + 1, len(content))
        if start >= end:
            return Answer("416 Range Not Satisfiable", kind, b"", f"Content-Range: bytes */{len(content)}\r\n")
        said = f"Content-Range: bytes {start}-{end - 1}/{len(content)}\r\n"
        return Answer("206 Partial Content", kind, content[start:end], accepts + said, name, start)

    def _content(self, name: str) -> memoryview:
        if self.shape.fault == "tamper":
            return self.farm.tampered(name)
        if self.shape.fault == "size":
            return memoryview(bytes(self.farm.contents[name]) + b"more")
        return self.farm.contents[name]

    def _page(self, project: str, as_json: bool) -> Answer:
        files = [file for file in self.farm.files if file.project == project.strip("/")]
        if not files:
            return Answer("404 Not Found", "text/plain", b"not here\n")
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
            return Answer("200 OK", _JSON, json.dumps(page).encode())
        links = [
            f'<a href="{self._link(self._name(file))}#sha256={self._sha256(file)}">{self._name(file)}</a>'
            for file in files
        ]
        return Answer("200 OK", "text/html", f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode())

    def _name(self, file: File) -> str:
        return file.name.replace("-1.0-", "-0.9-") if self.shape.fault == "stale" else file.name

    def _sha256(self, file: File) -> str:
        return self.farm.sha256[file.name] if self.shape.fault != "stale" else hashlib.sha256(b"older").hexdigest()

    def _link(self, name: str) -> str:
        elsewhere = self.shape.fault in ("redirect", "links")
        port = self.farm.mirrors[self.shape.target].port if elsewhere else self.port
        return f"http://127.0.0.1:{port}/files/{name}"


class Farm:
    """All mirrors, and the files that they share."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.files = [File(**file) for file in config["files"]]
        self.contents = {file.name: memoryview(file.content()) for file in self.files}
        self.sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in self.contents.items()}
        self.link = Bucket(config["link"])
        self.lag = 0.0
        self.mirrors = [Mirror(Shape(**shape), self) for shape in config["shapes"]]
        self._tampered: dict[str, memoryview] = {}

    def tampered(self, name: str) -> memoryview:
        """Other bytes than the file's, of the right length and with the right beginning."""
        if name not in self._tampered:
            content = bytearray(self.contents[name])
            for position in (*range(_TAMPER_EVERY - 1, len(content), _TAMPER_EVERY), len(content) - 1):
                content[position] ^= 1
            self._tampered[name] = memoryview(bytes(content))
        return self._tampered[name]

    def command(self, line: str) -> dict[str, Any]:
        """Carry out what the other side asks for; the counts after that."""
        if line == "reset":
            self.lag = 0.0
            for mirror in self.mirrors:
                mirror.reset()
        return {"counts": [(mirror.requests, mirror.file_bytes) for mirror in self.mirrors], "lag": self.lag}
