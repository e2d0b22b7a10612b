"""The OCI image format: blobs, layers, and the configuration and manifest that make an image of them.

Whatever is handed on is a `Blob`: it says what it is before anybody reads it. Knows no disk, network or engine.

    https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER}+gzip"
LAYER_ZSTD = f"{LAYER}+zstd"
#: The time in what has none of its own, so that it is the same bytes whenever it is made.
EPOCH = "1970-01-01T00:00:00Z"
#: What Docker calls the same things; read, and never written.
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYERS = {
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": LAYER_ZSTD,
}


@dataclass(frozen=True)
class Descriptor:
    """What a blob is: `digest` is "sha256:" and 64 hexadecimal digits, `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    def document(self) -> dict[str, Any]:
        """As manifests name it."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**found, "annotations": dict(self.annotations)} if self.annotations else found


class Blob(Protocol):
    """Bytes that are known by their digest, wherever they lie. Read as often as wanted, by several threads."""

    @property
    def descriptor(self) -> Descriptor:
        """What it is."""
        ...

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset` on, in pieces of about 1 MiB."""
        ...


@dataclass(frozen=True)
class Bytes:
    """A blob in memory."""

    descriptor: Descriptor
    content: bytes = field(repr=False)

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset` on."""
        yield self.content[offset:]


@dataclass(frozen=True)
class Layer:
    """A layer's blob. `diff_id` is the digest of its tar: the blob's own digest unless that is compressed."""

    blob: Blob
    diff_id: str
    made_by: str = ""

    @property
    def descriptor(self) -> Descriptor:
        """What the blob is."""
        return self.blob.descriptor


@dataclass(frozen=True)
class Image:
    """An image, complete: its digest is its manifest's, its id the configuration's."""

    manifest: Bytes
    config: Bytes
    layers: tuple[Layer, ...]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All that the manifest names, each once, the configuration last."""
        named: dict[str, Blob] = {layer.descriptor.digest: layer.blob for layer in self.layers}
        return (*named.values(), self.config)


def bytes_of(media_type: str, document: Mapping[str, Any]) -> Bytes:
    """A document as the blob that it is, always in the same bytes."""
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Bytes(Descriptor(media_type, digest_of(content), len(content)), content)


def digest_of(content: bytes) -> str:
    """The digest of bytes, in the form that descriptors have."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def compose(config: Mapping[str, Any], layers: Sequence[Layer], annotations: Mapping[str, str] | None = None) -> Image:
    """The image of these layers, bottom first.

    Args:
        config: An image configuration: what it says of layers and their history is replaced.
        layers: All of them. Where the configuration had some already, they are these again, with others among them.
        annotations: For the manifest.
    """
    history = [{"created_by": layer.made_by} if layer.made_by else {} for layer in layers]
    document = {
        **config,
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    return assemble(bytes_of(CONFIG, document), layers, annotations)


def assemble(config: Bytes, layers: Sequence[Layer], annotations: Mapping[str, str] | None = None) -> Image:
    """The image with this very configuration, which has to name these layers."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor.document(),
        "layers": [_as_oci(layer.descriptor).document() for layer in layers],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return Image(bytes_of(MANIFEST, manifest), config, tuple(layers))


def _as_oci(descriptor: Descriptor) -> Descriptor:
    """In OCI's words: one manifest may not mix them with Docker's."""
    return replace(descriptor, media_type=DOCKER_LAYERS.get(descriptor.media_type, descriptor.media_type))
