"""Small images made by hand, whose blobs can be watched, slowed down and spoiled."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from images.oci import LAYER, Blob, Bytes, Descriptor, Image, Layer, compose, digest_of

PIECE = 1 << 16
CONFIG = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}}


def layer(name: str, size: int = 1000) -> Layer:
    """One file that no engine can have yet."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = size
        tar.addfile(entry, io.BytesIO((uuid.uuid4().bytes * (size // 16 + 1))[:size]))
    content = buffer.getvalue()
    blob = Bytes(Descriptor(LAYER, digest_of(content), len(content)), content)
    return Layer(blob, blob.descriptor.digest)


def image(layers: Sequence[Layer], label: str = "") -> Image:
    """An image that cannot run, of these layers."""
    return compose({**CONFIG, "config": {"Labels": {"test": label}}}, layers)


def with_blob(of: Layer, blob: Blob) -> Layer:
    """The same layer, read from elsewhere."""
    return Layer(blob, of.diff_id)


def content(of: Layer) -> bytes:
    """All of a layer."""
    return b"".join(of.blob.read())


@dataclass(frozen=True)
class Broken:
    """A blob whose file ends too early, or cannot be read on, after its first piece."""

    descriptor: Descriptor
    start: bytes
    error: OSError | None = None

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """The first piece, and then what is wrong."""
        yield self.start[offset:]
        if self.error:
            raise self.error


@dataclass(frozen=True)
class Stuck:
    """A blob of which only a piece comes; then a file appears, and nothing more happens."""

    descriptor: Descriptor
    start: bytes = field(repr=False)
    reached: Path

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """The first piece."""
        yield self.start[offset:]
        self.reached.touch()
        while True:
            time.sleep(1)
