"""Reads a blob for somebody else, who has been told already how long it is. Knows no network and no engine."""

from __future__ import annotations

from collections.abc import Iterator

from images.errors import ImageError
from images.oci import Blob

_HINT = "it changed on this machine or its disk fails: i2v-setup clean, then build again"


def pieces(blob: Blob, offset: int = 0) -> Iterator[bytes]:
    """The blob's bytes from `offset` on, exactly as many as it says it has.

    Raises:
        ImageError: It cannot be read, or is shorter or longer than it says.
    """
    what = blob.descriptor
    left = what.size - offset
    try:
        for piece in blob.read(offset):
            left -= len(piece)
            if left < 0:
                break
            yield piece
    except OSError as error:
        raise ImageError(f"cannot read the layer {what.digest}: {error.strerror or error}", _HINT) from error
    if left:
        raise ImageError(f"the layer {what.digest} is not as long as it was, {what.size:,} bytes", _HINT)
