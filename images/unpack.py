"""Unpacks layers as they come in, in pieces of bounded size. Knows nothing of what is in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from images.blobs import PIECE
from images.errors import ImageError
from images.oci import DOCKER_LAYERS, LAYER_GZIP, LAYER_ZSTD, Descriptor

#: Bytes that one layer may unpack to: what is hostile may become a thousand times as much as came in.
MOST_UNPACKED = 128 << 30
_GZIP = 31  # zlib's number for gzip with its header


def is_packed(layer: Descriptor) -> bool:
    """Whether a layer's blob is another thing than its tar.

    Raises:
        ImageError: It is packed in a way that we cannot unpack.
    """
    kind = DOCKER_LAYERS.get(layer.media_type, layer.media_type)
    if kind == LAYER_ZSTD:
        raise ImageError(
            f"the layer {layer.digest} is packed with zstd, which cannot be read here",
            "pull the image into an engine of the overlay2 kind and verify it there, or push it packed with gzip",
        )
    return kind == LAYER_GZIP


def gunzip(pieces: Iterable[bytes], name: str, most: int = MOST_UNPACKED) -> Iterator[bytes]:
    """What was packed, in pieces of at most 1 MiB.

    Args:
        pieces: The packed bytes.
        name: What people call them.
        most: How many bytes they may unpack to.

    Raises:
        ImageError: They are not gzip's, end early, or unpack to too much.
    """
    size = 0
    try:
        for found in _members(pieces):
            size += len(found)
            if size > most:
                raise ImageError(f"{name} unpacks to more than {most} bytes", "do not use the image")
            yield found
    except (zlib.error, EOFError) as error:
        raise ImageError(f"{name} cannot be unpacked: {error}", "build or fetch the image again") from None


def _members(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Several packed things, one after another, unpack to all of them."""
    unpacker, begun = zlib.decompressobj(_GZIP), False
    for piece in pieces:
        left = piece
        while left:
            begun = True
            if found := unpacker.decompress(left, PIECE):
                yield found
            left = unpacker.unconsumed_tail
            if unpacker.eof:
                left = unpacker.unused_data
                unpacker, begun = zlib.decompressobj(_GZIP), False
    if begun:
        raise EOFError("it ends early")
