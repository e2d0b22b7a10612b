"""An image as the stream that `docker load` reads: an OCI layout and Docker's own format in one tar.

An engine takes whichever of the two its store goes by. Nothing is gathered: a piece is read from a blob when the
engine has taken the one before. Knows no engine.

    https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from images import tars
from images.oci import INDEX, Blob, Image
from images.reading import pieces
from images.saved import NAME, TAG, blob_path


def stream(image: Image, name: str, without: Collection[str], on_sent: Callable[[str, int], None]) -> Iterator[bytes]:
    """The archive, piece by piece.

    Args:
        image: What it holds.
        name: What the engine shall call the image, tag included.
        without: Digests of layers that are left out.
        on_sent: Told of each piece of a blob before it is handed on: the digest, and the size in bytes.
    """
    for path, document in _documents(image, name).items():
        content = json.dumps(document).encode()
        yield tars.file(path, len(content)) + content + tars.padding(len(content))
    for blob in (image.manifest, *image.blobs):
        if blob.descriptor.digest not in without:
            yield from _entry(blob, on_sent)
    yield tars.END


def _documents(image: Image, name: str) -> dict[str, Any]:
    """What the archive says of itself, by path: first for OCI, last for Docker's older store."""
    named = {NAME: name, TAG: name.rpartition(":")[2]}
    manifest = {**image.manifest.descriptor.document(), "annotations": named}
    layers = [blob_path(layer.descriptor.digest) for layer in image.layers]
    return {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]},
        "manifest.json": [{"Config": blob_path(image.config.descriptor.digest), "RepoTags": [name], "Layers": layers}],
    }


def _entry(blob: Blob, on_sent: Callable[[str, int], None]) -> Iterator[bytes]:
    what = blob.descriptor
    yield tars.file(blob_path(what.digest), what.size)
    for piece in pieces(blob):
        on_sent(what.digest, len(piece))
        yield piece
    yield tars.padding(what.size)
