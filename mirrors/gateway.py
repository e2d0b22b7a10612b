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
from collections.abc import Callable, Iterable
from http import HTTPStatus
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name

from mirrors import listing
from mirrors.errors import WrongBytes
from mirrors.fetch import Download, Downloads
from mirrors.loopback_server import Handler, LoopbackServer
from mirrors.resolve import Wheel

_BLOCK = 1 << 18  # bytes that are passed on at once
_PATIENCE = 5.0  # seconds between two signs of life to a client that waits for its headers
_FAILED = HTTPStatus.FAILED_DEPENDENCY  # not 502: uv asks four times for that, although all mirrors were tried (6.6 s)
_METADATA = "text/plain; charset=utf-8"
_UNKNOWN = "not in the lock"


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

    def __enter__(self) -> Gateway:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def index_url(self) -> str:
        """The simple index (PEP 503 and 691)."""
        return f"{self._server.base}/simple/"

    def url(self, filename: str) -> str:
        """Where a wheel is."""
        return f"{self._server.base}/files/{quote(filename)}"

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


class _Server(LoopbackServer):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__(_Handler)
        self.gateway = gateway


class _Handler(Handler):
    server: _Server

    def answer(self) -> None:
        try:
            path = unquote(urlsplit(self.path).path)
        except ValueError:
            self.send_text(HTTPStatus.BAD_REQUEST, "no address")
            return
        kind, _, name = path.removeprefix("/").partition("/")
        if kind == "simple":
            self._page(name.removesuffix("/"))
        elif kind == "files" and name in self.server.gateway.wheels:
            self._guarded(self._wheel, name)
        elif kind == "files" and name.removesuffix(".metadata") in self.server.gateway.wheels:
            self._guarded(self._metadata, name.removesuffix(".metadata"))
        else:
            self.send_text(HTTPStatus.NOT_FOUND, _UNKNOWN)

    def _page(self, project: str) -> None:
        type_ = listing.type_for(self.headers.get("Accept", ""))
        page = self.server.gateway.page(project, type_)
        if page is None:
            self.send_text(HTTPStatus.NOT_FOUND, _UNKNOWN)
        else:
            self.send(HTTPStatus.OK, page, type_)

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
            if self.headers_sent:
                self.close_connection = True
            else:
                self.send_text(_FAILED, str(error))

    def _metadata(self, filename: str) -> None:
        """PEP 658: the wheel's METADATA, out of the verified file."""
        text = listing.metadata(self.server.gateway.download(filename).result().path)
        if text is None:
            self.send_text(HTTPStatus.NOT_FOUND, "it has none")
        else:
            self.send(HTTPStatus.OK, text, _METADATA)

    def _wheel(self, filename: str) -> None:
        download = self.server.gateway.download(filename)
        size = download.size()
        start, end, status = _extent(self.headers.get("Range", ""), size)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Accept-Ranges": "bytes",
        }
        if status is not HTTPStatus.OK:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}" if start < end else f"bytes */{size}"
        if start < end and self.command != "HEAD":
            self._wait(download, start)
        self.send_headers(status, headers)
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
