"""Unpacks layers as they come in, in pieces of bounded size. Knows nothing of what is in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, cast

import zstandard

from images.blobs import PIECE
from images.errors import ImageError
from images.oci import DOCKER_LAYERS, LAYER_GZIP, LAYER_ZSTD, Descriptor, Layer
from images.untar import StreamSource

#: Bytes that one layer may unpack to: what is hostile may become a thousand times as much as came in.
MOST_UNPACKED = 128 << 30
_GZIP = 31  # zlib's number for gzip with its header
_WINDOW = 128 << 20  # bytes of memory: what zstd itself reads unless it is told otherwise


def is_packed(layer: Descriptor) -> bool:
    """Whether a layer's blob is another thing than its tar."""
    return _kind(layer) in (LAYER_GZIP, LAYER_ZSTD)


def unpack(layer: Descriptor, pieces: Iterable[bytes], name: str, most: int = MOST_UNPACKED) -> Iterator[bytes]:
    """A layer's tar, of the pieces of its blob.

    Args:
        layer: What the blob is.
        pieces: Its bytes.
        name: What people call it.
        most: How many bytes it may unpack to.

    Raises:
        ImageError: It is not packed as it says, ends early, or unpacks to too much.
    """
    if _kind(layer) == LAYER_ZSTD:
        return _bounded(_unzstd(pieces), name, most)
    return _bounded(_members(pieces), name, most) if _kind(layer) == LAYER_GZIP else iter(pieces)


def unpacked(layer: Layer) -> Iterator[bytes]:
    """A layer's tar.

    Raises:
        ImageError: As for `unpack`.
    """
    return unpack(layer.descriptor, layer.blob.read(), f"the layer {layer.descriptor.digest}")


def _kind(layer: Descriptor) -> str:
    return DOCKER_LAYERS.get(layer.media_type, layer.media_type)


def _bounded(pieces: Iterable[bytes], name: str, most: int) -> Iterator[bytes]:
    size = 0
    try:
        for found in pieces:
            size += len(found)
            if size > most:
                raise ImageError(f"{name} unpacks to more than {most} bytes", "do not use the image")
            yield found
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise ImageError(f"{name} cannot be unpacked: {error}", "build or fetch the image again") from None


def _unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """In pieces of at most 1 MiB; a window of more than zstd's own tools take is refused."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    with unpacker.stream_reader(
        cast(IO[bytes], StreamSource(pieces)), read_size=PIECE, read_across_frames=True
    ) as reader:
        while piece := reader.read(PIECE):
            yield piece


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
