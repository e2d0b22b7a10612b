"""A package index on this machine, in front of the fetch: any installer asks it, and all mirrors answer.

It lists exactly the locked wheels, with the sha256 that the lock allows, and streams a wheel to the client while its
pieces still come in from several mirrors, so that unpacking goes on beside downloading. The end of a file is kept back
until the whole of it was verified: a client never gets a complete wrong file. Knows nothing of mirrors, and tells its
clients no address of one.

Why not fetch all into a wheelhouse first, and run uv then? Measured with benchmarks/install.py (55 wheels, 286 MB,
two cores, all in memory): from three mirrors of 20 MB/s a connection the gateway takes 3.2 s, the wheelhouse 3.9 s,
bare uv from one of them 10.3 s; the slower the network, the more is gained by unpacking meanwhile. Where nothing but
the processor is the limit they are equal (3.25 s and 3.19 s; bare uv 2.4 s: the fetch with its sha256 costs 0.75 s of
processor time, passing the bytes on 0.15 s). And through the gateway only that is fetched which uv's cache lacks.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name

from mirrors import listing
from mirrors.errors import WrongBytes
from mirrors.fetch import Download, Downloads
from mirrors.resolve import Wheel
from mirrors.urls import is_loopback

_BLOCK = 1 << 18  # bytes that are passed on at once
_PATIENCE = 5.0  # seconds between two signs of life to a client that waits for its headers
_FAILED = HTTPStatus.FAILED_DEPENDENCY  # not 502: uv asks four times for that, although all mirrors were tried (6.6 s)
_TEXT = "text/plain; charset=utf-8"


class Gateway:
    """The index, as long as the `with` block lasts.

    Args:
        wheels: what it offers.
        downloads: who fetches them. It has to outlive the gateway.
        whole: a file is given only when it is verified: for a client that does not unpack while it reads, or that
            would not ask again for what turned out wrong (pip).

    Attributes:
        failures: by file name, why it could not be had, mostly a MirrorError. The client only sees that there was none.
        unfinished: the files that a client began to read and did not get to the end, last time: because their bytes
            turned out wrong, which the client may have seen before us, or because it hung up.
    """

    def __init__(self, wheels: Iterable[Wheel], downloads: Downloads, *, whole: bool = False) -> None:
        self.wheels = {wheel.filename: wheel for wheel in wheels}
        self.whole = whole
        self.failures: dict[str, Exception] = {}
        self.unfinished: set[str] = set()
        self._downloads = downloads
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def index_url(self) -> str:
        """The simple index (PEP 503 and 691)."""
        return f"{self._base}/simple/"

    def url(self, filename: str) -> str:
        """Where a wheel is."""
        return f"{self._base}/files/{quote(filename)}"

    def download(self, filename: str) -> Download:
        """The wheel's download, which begins now if it has not yet."""
        wheel = self.wheels[filename]
        return self._downloads.want(wheel.artifact, wheel.urls)

    def prefetch(self) -> None:
        """Begin to fetch all wheels: for a client that asks for one after the other (pip)."""
        for filename in self.wheels:
            self.download(filename)

    def page(self, project: str, type_: str) -> bytes | None:
        """The index page of a project, or of all ("")."""
        if not project:
            return listing.root(sorted({wheel.project for wheel in self.wheels.values()}), type_)
        wheels = [wheel for wheel in self.wheels.values() if wheel.project == canonicalize_name(project)]
        return listing.project(project, wheels, type_) if wheels else None

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gateway = gateway
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As always, but known until its end, so that `server_close` lets go of idle connections too."""
        with self._lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)

    def server_close(self) -> None:
        """Listen no more, and end the connections that stand."""
        super().server_close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is nobody's fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "i2v-setup", ""
    disable_nagle_algorithm = True  # or a body waits 40 ms for the client to acknowledge the headers
    server: _Server

    def do_GET(self) -> None:
        self._headers_sent = False
        try:
            path, addressed = unquote(urlsplit(self.path).path), is_loopback(f"//{self.headers.get('Host', '')}")
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, b"no address\n")
            return
        kind, _, name = path.removeprefix("/").partition("/")
        # A page that is open in the user's browser could reach us under a name of its own (DNS rebinding).
        if not addressed:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"ask for 127.0.0.1\n")
        elif kind == "simple":
            self._page(name.removesuffix("/"))
        elif kind == "files" and name in self.server.gateway.wheels:
            self._guarded(self._wheel, name)
        elif kind == "files" and name.removesuffix(".metadata") in self.server.gateway.wheels:
            self._guarded(self._metadata, name.removesuffix(".metadata"))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not in the lock\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _page(self, project: str) -> None:
        type_ = listing.type_for(self.headers.get("Accept", ""))
        page = self.server.gateway.page(project, type_)
        if page is None:
            self._send(HTTPStatus.NOT_FOUND, b"not in the lock\n")
        else:
            self._send(HTTPStatus.OK, page, type_)

    def _guarded(self, answer: Callable[[str], None], filename: str) -> None:
        """Answer, and where that fails leave the reason with the gateway: the client only sees that it failed."""
        gateway = self.server.gateway
        try:
            answer(filename)
        except ConnectionError:
            raise  # the client hung up
        except WrongBytes:
            self.close_connection = True  # and it is asked for again
        except Exception as error:  # noqa: BLE001  # for whoever runs the client
            gateway.failures[filename] = error
            if self._headers_sent:
                self.close_connection = True
            else:
                self._send(_FAILED, f"{error}\n".encode())

    def _metadata(self, filename: str) -> None:
        """PEP 658: the wheel's METADATA, out of the verified file."""
        text = listing.metadata(self.server.gateway.download(filename).result().path)
        self._send(HTTPStatus.OK, text) if text is not None else self._send(HTTPStatus.NOT_FOUND, b"it has none\n")

    def _wheel(self, filename: str) -> None:
        download = self.server.gateway.download(filename)
        size = download.size()
        start, end, status = _extent(self.headers.get("Range", ""), size)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if status is not HTTPStatus.OK:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}" if start < end else f"bytes */{size}"
        if start < end and self.command != "HEAD":
            self._wait(download, start)
        self._send_headers(status, end - start, headers)
        if self.command != "HEAD":
            self.server.gateway.unfinished.add(filename)
            self._copy(download, start, end, size)
            self.server.gateway.unfinished.discard(filename)

    def _wait(self, download: Download, start: int) -> None:
        """Until there is something to send: a failure can only be told before the headers are sent."""
        if not self.server.gateway.whole:
            download.read(start, start + 1)
            return
        while True:
            try:
                download.result(_PATIENCE)
            except TimeoutError:
                self.send_response_only(HTTPStatus.CONTINUE)
                self.end_headers()
            else:
                return

    def _copy(self, download: Download, start: int, end: int, size: int) -> None:
        epoch = download.epoch
        while start < end:
            # Where the lock does not tell the size, the one that a mirror tells may turn out wrong too.
            if download.epoch != epoch or download.size() != size:
                raise WrongBytes(f"bytes of {download.artifact.name} turned out wrong")
            if download.path is not None:
                with download.path.open("rb") as file:
                    self.connection.sendfile(file, start, end - start)
                return
            block = download.read(start, min(start + _BLOCK, end), epoch)
            self.wfile.write(block)
            start += len(block)

    def _send(self, status: HTTPStatus, body: bytes, type_: str = _TEXT) -> None:
        self._send_headers(status, len(body), {"Content-Type": type_})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_headers(self, status: HTTPStatus, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self._headers_sent = True
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Quietly: what matters is in `failures`."""


def _extent(wanted: str, size: int) -> tuple[int, int, HTTPStatus]:
    """The bytes that a Range header asks for, from and up to, and the status of the answer.

    Several ranges, or what is none, get the whole file, as the standard allows.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", wanted, re.ASCII)
    if match is None or not any(match.groups()):
        return 0, size, HTTPStatus.OK
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2] or size) + 1)
    if start >= end:
        return 0, 0, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    return start, end, HTTPStatus.PARTIAL_CONTENT
