"""A registry that lives as long as one delivery: it shows one image to the engine on this machine, and takes nothing.

It speaks the pull half of the OCI distribution protocol over plain HTTP, on a port of 127.0.0.1 and below a name that
nobody can guess, since every user of the machine can reach it. Knows no engine.

    https://github.com/opencontainers/distribution-spec
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from images.errors import ImageError
from images.oci import Blob, Image
from images.reading import pieces
from mirrors.loopback_server import Handler, LoopbackServer

#: The path below which such a registry keeps its image; what is behind it is random.
PREFIX = "i2v-setup-delivery"
_TAG = "image"
_SEND_BUFFER = 1 << 20
_TLS_HELLO = b"\x16"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class LoopbackRegistry:
    """The registry of `image`, as long as the `with` block lasts.

    Attributes:
        reference: What an engine calls the image here.
        asked: Whether anybody has come to ask for anything.
        failure: Why a blob could not be read, if one could not.
    """

    def __init__(self, image: Image, on_bytes: Callable[[int], None]) -> None:
        """Take a port; nobody is answered yet.

        Args:
            image: What to serve.
            on_bytes: Told of every piece of a blob that was sent, by any thread.
        """
        self._path = f"{PREFIX}/{secrets.token_hex(16)}"
        self._on_bytes = on_bytes
        self._manifest = image.manifest
        self._blobs: Mapping[str, Blob] = {blob.descriptor.digest: blob for blob in image.blobs}
        self._sent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.asked = False
        self.failure: ImageError | None = None
        self.reference = f"127.0.0.1:{self._server.server_port}/{self._path}:{_TAG}"

    def __enter__(self) -> LoopbackRegistry:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def sent(self) -> Mapping[str, int]:
        """The bytes that were sent of each blob; one that was not asked for is not named."""
        with self._lock:
            return dict(self._sent)

    def find(self, path: str) -> Blob | None:
        """What a path names, if there is such a thing."""
        start = f"/v2/{self._path}/"
        kind, _, name = path.removeprefix(start).partition("/")
        if not path.startswith(start):
            return None
        if kind == "manifests" and name in (_TAG, self._manifest.descriptor.digest):
            return self._manifest
        return self._blobs.get(name) if kind == "blobs" else None

    def count(self, blob: Blob, size: int) -> None:
        """Note that `size` bytes of a blob went out."""
        with self._lock:
            self._sent[blob.descriptor.digest] += size
        self._on_bytes(size)


class _Server(LoopbackServer):
    def __init__(self, registry: LoopbackRegistry) -> None:
        super().__init__(_Handler)
        self.registry = registry


class _Handler(Handler):
    def setup(self) -> None:
        """As always, with room for a whole piece of a blob: it saves a third of the time that sending takes."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        super().setup()

    def handle(self) -> None:
        """Docker tries TLS first, and takes a plain answer as the sign to do without."""
        if self.connection.recv(1, socket.MSG_PEEK) != _TLS_HELLO:
            super().handle()
            return
        # Closing with bytes unread would reset the connection, and the answer could be lost.
        self.connection.recv(1 << 16)
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def answer(self) -> None:
        """The version check, a manifest, or a blob."""
        registry = cast(_Server, self.server).registry
        registry.asked = True
        if self.path == "/v2/":
            self.send(200, b"{}", "application/json")
            return
        blob = registry.find(self.path)
        if blob is None:
            unknown = {"errors": [{"code": "NAME_UNKNOWN", "message": "there is no such thing here"}]}
            self.send(404, json.dumps(unknown).encode(), "application/json")
            return
        self._send_blob(registry, blob)

    def _send_blob(self, registry: LoopbackRegistry, blob: Blob) -> None:
        what = blob.descriptor
        wanted = _range(self.headers.get("Range"), what.size)
        if wanted is None:
            self.send_headers(416, {"Content-Range": f"bytes */{what.size}", "Content-Length": "0"})
            return
        begin, end = wanted
        headers = {
            "Content-Type": what.media_type,
            "Content-Length": str(end - begin),
            "Docker-Content-Digest": what.digest,
            "Accept-Ranges": "bytes",
        }
        if self.headers.get("Range"):
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{what.size}"
        self.send_headers(206 if "Content-Range" in headers else 200, headers)
        if self.command == "HEAD":
            return
        for piece in _up_to(end - begin, self._pieces(registry, blob, begin)):
            self.wfile.write(piece)
            registry.count(blob, len(piece))

    def _pieces(self, registry: LoopbackRegistry, blob: Blob, offset: int) -> Iterator[bytes]:
        """A blob's bytes; whoever started the registry is told what is wrong with it, the engine only that it ends."""
        try:
            yield from pieces(blob, offset)
        except ImageError as error:
            registry.failure = error
            self.close_connection = True


def _up_to(size: int, stream: Iterable[bytes]) -> Iterator[bytes]:
    """The first `size` bytes."""
    for piece in stream:
        yield piece[:size]
        size -= len(piece)
        if size <= 0:
            return


def _range(asked: str | None, size: int) -> tuple[int, int] | None:
    """Where what is asked for begins and ends; None if there is no such range."""
    if asked is None:
        return 0, size
    match = _RANGE.fullmatch(asked)
    if not match:
        return None
    begin, end = int(match[1]), min(int(match[2] or size), size - 1) + 1
    return (begin, end) if begin < end else None
