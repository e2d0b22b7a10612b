"""Registries on this machine: a real one, and one that does what a test wants. And small images to push there."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from images.oci import LAYER, Blob, Bytes, Descriptor, Image, Layer, compose, digest_of
from images.references import Reference, parse
from mirrors.loopback_server import Handler, LoopbackServer

NAME, PASSWORD = "tester", "correct horse"
_HASHED = "$2b$04$octmseHWe6FC8PAe7J3dY.akMsuL07V10BxRyoCzCB33vmyPm1HyC"  # of the password, for htpasswd


def log_in(directory: Path, host: str, password: str = PASSWORD) -> None:
    """What `docker login` would keep."""
    auth = base64.b64encode(f"{NAME}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


@contextmanager
def real_registry(directory: Path, port: int, *, password: bool = False, storage: Path | None = None) -> Iterator[str]:
    """Docker's own registry; its host and port."""
    command = shutil.which("docker-registry")
    if command is None:
        pytest.skip("there is no docker-registry here")
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(storage or directory / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if password:
        (directory / "htpasswd").write_text(f"{NAME}:{_HASHED}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    path = directory / "registry.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen([command, "serve", str(path)], stdout=log, stderr=log)
        try:
            while True:
                assert process.poll() is None, (directory / "registry.log").read_text()
                try:
                    requests.get(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
                    break
                except requests.ConnectionError:
                    time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Counted:
    """A blob in memory that keeps count of what is read of it, and in pieces as files give them."""

    descriptor: Descriptor
    content: bytes = field(repr=False)
    reads: list[int] = field(default_factory=list)

    def read(self, offset: int = 0) -> Iterator[bytes]:
        self.reads.append(offset)
        for start in range(offset, len(self.content), 1 << 20):
            yield self.content[start : start + (1 << 20)]


def counted(content: bytes) -> Counted:
    return Counted(Descriptor(LAYER, digest_of(content), len(content)), content)


def tar_layer(files: dict[str, bytes]) -> Layer:
    """A layer with these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    blob = counted(made.getvalue())
    return Layer(blob, blob.descriptor.digest, "test")


def image_of(*layers: Layer) -> Image:
    return compose({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]}}, layers)


def small_image(megabytes: int = 3, layers: int = 3) -> Image:
    """Layers of random bytes, unlike any before."""
    return image_of(*(tar_layer({f"file-{number}": os.urandom(megabytes << 20)}) for number in range(layers)))


def content(blob: Blob) -> bytes:
    return b"".join(blob.read())


@dataclass
class Request:
    """One that arrived. `body` is what of it did."""

    method: str
    path: str
    headers: dict[str, str]
    body: int = 0


class ScriptedRegistry(LoopbackServer):
    """A registry in memory. `before` may answer a request in its place: then it returns True."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(_Answers)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.requests: list[Request] = []
        self.before: Callable[[_Answers], bool] = lambda _: False

    def __enter__(self) -> ScriptedRegistry:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def reference(self, rest: str = "some/image:1") -> Reference:
        return parse(f"{self.host}/{rest}")

    def holds(self, image: Image, tag: str = "1") -> None:
        """Have an image."""
        manifest = image.manifest
        for target in (tag, manifest.descriptor.digest):
            self.manifests[target] = (manifest.descriptor.media_type, manifest.content)
        self.blobs |= {blob.descriptor.digest: content(blob) for blob in image.blobs}

    def asked(self, method: str, part: str = "") -> list[Request]:
        return [request for request in self.requests if request.method == method and part in request.path]


class _Answers(Handler):
    server: ScriptedRegistry

    def do_GET(self) -> None:  # noqa: N802  # the base class names it so
        self.take = int(self.headers.get("Content-Length", 0))
        self.request_made = Request(self.command, self.path, dict(self.headers.items()))
        self.server.requests.append(self.request_made)
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        super().do_GET()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def answer(self) -> None:
        if self.server.before(self):
            if self.take:
                self.close_connection = True
            return
        path = urlsplit(self.path).path
        for pattern, answer in (
            (r"/v2/", lambda: self.reply(200)),
            (r"/v2/.*/blobs/uploads/", self.post),
            (r"/v2/.*/blobs/uploads/(.+)", self.upload),
            (r"/v2/.*/blobs/(sha256:.*)", self.blob),
            (r"/v2/.*/manifests/(.*)", self.manifest),
        ):
            if found := re.fullmatch(pattern, path):
                answer(*found.groups())
                return
        self.reply(404)

    def body(self, most: int | None = None) -> Iterator[bytes]:
        """What is sent, as it arrives."""
        left = self.take if most is None else most
        while left:
            block = self.rfile.read1(min(left, 1 << 16))
            if not block:
                raise ConnectionResetError
            self.take -= len(block)
            left -= len(block)
            self.request_made.body += len(block)
            yield block

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_headers(status, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self) -> ConnectionResetError:
        """What to raise, to end the connection as a machine does that falls over."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return ConnectionResetError()

    def post(self) -> None:
        digest = self.query.get("mount", "")
        if digest in self.server.blobs:
            self.reply(201)
            return
        name = str(uuid.uuid4())
        self.server.uploads[name] = bytearray()
        self.reply(202, {"Location": f"/v2/some/image/blobs/uploads/{name}?state=first"})

    def upload(self, name: str) -> None:
        found = self.server.uploads.get(name)
        if found is None:
            self.reply(404)
            return
        if self.command in ("PATCH", "PUT"):
            for block in self.body():
                found += block
        there = {"Range": f"0-{max(len(found) - 1, 0)}", "Location": f"{self.server.base}{self.path.partition('&')[0]}"}
        if self.command != "PUT":
            self.reply(204 if self.command == "GET" else 202, there)
            return
        digest = self.query["digest"]
        if f"sha256:{hashlib.sha256(found).hexdigest()}" != digest:
            self.reply(400, body=b'{"errors": [{"code": "DIGEST_INVALID", "message": "digest did not match"}]}')
            return
        self.server.blobs[digest] = bytes(found)
        del self.server.uploads[name]
        self.reply(201, {"Docker-Content-Digest": digest})

    def blob(self, digest: str) -> None:
        found = self.server.blobs.get(digest)
        if found is None:
            self.reply(404)
            return
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        self.reply(206 if start else 200, {"Docker-Content-Digest": digest}, found[start:])

    def manifest(self, target: str) -> None:
        if self.command == "PUT":
            document = b"".join(self.body())
            digest = digest_of(document)
            self.server.manifests[target] = self.server.manifests[digest] = (self.headers["Content-Type"], document)
            self.reply(201, {"Docker-Content-Digest": digest})
        elif target in self.server.manifests:
            type_, document = self.server.manifests[target]
            self.reply(200, {"Content-Type": type_, "Docker-Content-Digest": digest_of(document)}, document)
        else:
            self.reply(404, body=b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')


Answers = _Answers


def refuse_referrers(answers: Answers) -> bool:
    """For `ScriptedRegistry.before`: no manifest is taken that has no tag, such as that of a referrer."""
    if answers.command == "PUT" and "/manifests/sha256:" in answers.path:
        answers.reply(400, body=b'{"errors": [{"message": "no such manifests here"}]}')
        return True
    return False


def memory(content_: bytes, media_type: str = LAYER) -> Bytes:
    return Bytes(Descriptor(media_type, digest_of(content_), len(content_)), content_)
