"""A package mirror on 127.0.0.1 that can be told to misbehave.

with LoopbackMirror() as mirror:
    mirror.add("demo-1.0-py3-none-any.whl", data)           # listed under its project, served with ranges
    mirror.add("weights.bin", data, project=None)           # served only
    mirror.misbehave("/files/demo*", Fault(status=503, times=2, headers={"Retry-After": "0"}))
    mirror.index_url, mirror.url("demo-1.0-py3-none-any.whl"), mirror.requests
"""

from __future__ import annotations

import fnmatch
import hashlib
import html
import json
import mmap
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name, parse_wheel_filename

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True)
class Fault:
    """What a path does instead of working. Only what is set differs from good behaviour.

    Attributes:
        status: answer with this status and a short body.
        user_agent: only to clients whose User-Agent matches this regular expression.
        times: only so many times.
        without: only to requests that do not carry this Authorization.
        headers: to send along, such as Retry-After.
        hang: take the request and never answer.
        redirect: answer 302 to this URL.
        portal: answer 200 with a login page.
        truncate: close the connection after so many bytes of the body.
        stall: send no more after so many bytes of the body.
        tamper: other bytes, of the right length.
        endless: a body of this file's bytes, over and over.
        ignore_range: answer 200 with all bytes to a request for a range.
        rate: bytes per second.
        drip: send the headers one byte at a time, so many seconds apart.
    """

    status: int | None = None
    user_agent: str = ""
    times: int | None = None
    without: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    redirect: str | None = None
    portal: bool = False
    truncate: int | None = None
    stall: int | None = None
    tamper: bool = False
    endless: bool = False
    ignore_range: bool = False
    rate: float | None = None
    drip: float | None = None


@dataclass(frozen=True)
class Seen:
    """A request that came in. Header names are in lower case."""

    path: str
    headers: dict[str, str]


@dataclass
class _File:
    data: bytes
    project: str | None
    listed_sha256: str | None


class LoopbackMirror:
    """The server. It lives as long as the `with` block."""

    def __init__(self, *, formats: tuple[str, ...] = ("json", "html"), certificate: tuple[Path, Path] | None = None):
        self.requests: list[Seen] = []
        self.sent = 0
        self.formats = formats
        self._files: dict[str, _File] = {}
        self._faults: dict[str, Fault] = {}
        self._links: dict[str, str] = {}
        self._places: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> LoopbackMirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on, and let hanging ones go."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kill(self) -> None:
        """As `stop`, and every connection breaks at once, as when the machine dies."""
        self._server.cut()
        self.stop()
        self._server.cut()

    @property
    def base(self) -> str:
        """Scheme, host and port."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def index_url(self) -> str:
        """Where the simple index is."""
        return f"{self.base}/simple"

    def url(self, filename: str) -> str:
        """Where a file is."""
        return f"{self.base}/files/{quote(filename)}"

    def add(self, filename: str, data: bytes, *, project: str | None = "", listed_sha256: str | None = "") -> str:
        """Serve a file; its sha256.

        Args:
            filename: also says which project's page lists it, if it is a wheel.
            data: its bytes.
            project: the project, where the name does not tell; None: on no page.
            listed_sha256: what the index says of it; None: nothing. By default the truth.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if project == "":
            project = parse_wheel_filename(filename)[0] if filename.endswith(".whl") else None
        self._files[filename] = _File(data, project, sha256 if listed_sha256 == "" else listed_sha256)
        return sha256

    def keep_as_pypi(self, filename: str) -> None:
        """Let the index link that file to where PyPI and its mirrors keep it: below the digits of a hash."""
        digits = hashlib.blake2b(self._files[filename].data, digest_size=32).hexdigest()
        self.link(filename, f"/packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/{quote(filename)}")

    def link(self, filename: str, url: str) -> None:
        """Let the index link that file to another address."""
        self._links[filename] = url

    def serve(self, path: str, data: bytes | Path) -> None:
        """Serve a file at a path of its own, as a tree of files has it; one on the disk is not read into memory."""
        if isinstance(data, Path):
            with data.open("rb") as file:
                data = cast(bytes, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._places[path] = data

    def misbehave(self, pattern: str, fault: Fault | None) -> None:
        """From now on, on paths that match (as a shell would; the latest match counts). None: behave again."""
        self._faults.pop(pattern, None)
        if fault:
            self._faults[pattern] = fault

    def requested(self, pattern: str) -> list[Seen]:
        """The requests for matching paths so far."""
        return [seen for seen in self.requests if fnmatch.fnmatch(seen.path, pattern)]

    # what follows is for the handler

    def fault_for(self, path: str, user_agent: str, authorization: str = "") -> Fault:
        with self._lock:
            for pattern, fault in reversed(self._faults.items()):
                if not fnmatch.fnmatch(path, pattern) or not re.search(fault.user_agent, user_agent):
                    continue
                if fault.without and fault.without == authorization:
                    continue
                if fault.times == 0:
                    continue
                if fault.times is not None:
                    self._faults[pattern] = replace(fault, times=fault.times - 1)
                return fault
        return Fault()

    def page(self, path: str, accept: str) -> tuple[bytes, str] | None:
        """The index page at a path, and its type."""
        names = [name for name, file in self._files.items() if file.project]
        if path in ("/flat", "/flat/"):
            return self._html(names), "text/html"
        parts = path.strip("/").split("/")
        if parts[0] != "simple" or len(parts) > 2:
            return None
        if len(parts) == 2:
            names = [name for name in names if canonicalize_name(self._files[name].project or "") == parts[1]]
            if not names:
                return None
        if "json" in self.formats and JSON in accept:
            return json.dumps(self._json(parts[-1], names)).encode(), JSON
        return self._html(names), "text/html; charset=utf-8"

    def file(self, path: str) -> bytes | None:
        if path in self._places:
            return self._places[path]
        name = path.removeprefix("/files/") if path.startswith("/files/") else ""
        name = path.rpartition("/")[2] if path.startswith("/packages/") else name
        return self._files[name].data if name in self._files else None

    def wait(self, seconds: float | None) -> bool:
        """Whether the server is closing."""
        return self._closing.wait(seconds)

    def _href(self, name: str) -> str:
        return self._links.get(name) or f"/files/{quote(name)}"

    def _json(self, project: str, names: list[str]) -> dict[str, Any]:
        files = [
            {
                "filename": name,
                "url": self._href(name),
                "size": len(self._files[name].data),
                "hashes": {"sha256": self._files[name].listed_sha256} if self._files[name].listed_sha256 else {},
            }
            for name in names
        ]
        return {"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": files}

    def _html(self, names: list[str]) -> bytes:
        links = []
        for name in names:
            sha256 = self._files[name].listed_sha256
            fragment = f"#sha256={sha256}" if sha256 else ""
            links.append(f'<a href="{self._href(name)}{fragment}">{html.escape(name)}</a><br>')
        return ("<!DOCTYPE html><html><body>\n" + "\n".join(links) + "\n</body></html>\n").encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], mirror: LoopbackMirror) -> None:
        super().__init__(address, _Handler)
        self.mirror = mirror
        self._open: set[Any] = set()
        self._open_lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As always, but known until its end."""
        with self._open_lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.discard(request)

    def cut(self) -> None:
        """Break every connection."""
        with self._open_lock:
            for request in self._open:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is none of our business."""


@dataclass
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        mirror, path = self.server.mirror, unquote(urlsplit(self.path).path)
        mirror.requests.append(Seen(path, {name.lower(): value for name, value in self.headers.items()}))
        fault = mirror.fault_for(path, self.headers.get("User-Agent", ""), self.headers.get("Authorization", ""))
        if fault.hang:
            mirror.wait(None)
            self.close_connection = True
            return
        answer = self._misbehaved(fault) or self._answer(path, fault)
        answer.headers.update(fault.headers)
        with suppress(ConnectionError, ssl.SSLError):
            self._send(answer, fault)

    do_HEAD = do_GET  # noqa: N815  # the base class names it so

    def _misbehaved(self, fault: Fault) -> _Answer | None:
        if fault.status:
            return _Answer(fault.status, b"no\n")
        if fault.redirect:
            return _Answer(302, b"", {"Location": fault.redirect})
        if fault.portal:
            page = b"<html><body><a href='/login'>Log in to use this network</a></body></html>"
            return _Answer(200, page, {"Content-Type": "text/html"})
        return None

    def _answer(self, path: str, fault: Fault) -> _Answer:
        page = self.server.mirror.page(path, self.headers.get("Accept", ""))
        if page is not None:
            return _Answer(200, page[0], {"Content-Type": page[1]})
        data = self.server.mirror.file(path)
        if data is None:
            return _Answer(404, b"not here\n")
        if fault.tamper:
            data = bytes(byte ^ 1 for byte in data[:64]) + data[64:-64] + bytes(byte ^ 1 for byte in data[-64:])
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted or fault.ignore_range:
            return _Answer(200, data, headers)
        start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if start >= len(data):
            return _Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return _Answer(206, data[start : end + 1], headers)

    def _send(self, answer: _Answer, fault: Fault) -> None:
        if fault.drip is not None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.server.mirror.wait(fault.drip):
                self.wfile.write(b"x")
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if fault.endless:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            for block in self._blocks(answer.body, fault):
                self.wfile.write(block)
                self.server.mirror.sent += len(block)
        if fault.truncate is not None:
            self.close_connection = True

    def _blocks(self, body: bytes, fault: Fault) -> Iterator[bytes]:
        body = body[: fault.truncate if fault.stall is None else fault.stall]
        size = 1 << 16 if fault.rate is None else max(1, int(fault.rate / 20))
        while True:
            for start in range(0, len(body), size):
                block = body[start : start + size]
                yield block
                if fault.rate is not None and self.server.mirror.wait(len(block) / fault.rate):
                    return
            if fault.stall is not None:
                self.server.mirror.wait(None)
                self.close_connection = True
                return
            if not fault.endless or self.server.mirror.wait(0):
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Quietly."""


def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
