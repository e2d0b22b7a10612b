"""Blobs whose bytes lie in files, and pieces of bytes that are hashed as they pass. Writes nothing.

A file is known by its stamp. One that is not what it was when it was stamped is refused, and never read as if it were.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from images.errors import ImageError
from images.oci import Blob, Descriptor

PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Stamp:
    """What changes when a file does: replaced, it has another inode, rewritten, another time."""

    size: int
    inode: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file with that status."""
        return cls(status.st_size, status.st_ino, status.st_mtime_ns)


@dataclass(frozen=True)
class FilePart:
    """Some bytes of a file: `size` of them, from `start` on."""

    path: Path
    start: int
    size: int
    stamp: Stamp

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset` on, in pieces.

        Raises:
            ImageError: The file cannot be read, or is another one by now: the last piece is given only if it is not.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check(file.fileno())
                file.seek(self.start + offset)
                left = self.size - offset
                while left > 0:
                    piece = file.read(min(left, PIECE))
                    if not piece:
                        raise self._changed()
                    left -= len(piece)
                    if not left:
                        self._check(file.fileno())
                    yield piece
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _check(self, opened: int) -> None:
        if Stamp.of(os.fstat(opened)) != self.stamp:
            raise self._changed()

    def _changed(self) -> ImageError:
        return ImageError(f"{self.path} was changed while it was in use", "let it be, and run the same command again")


@dataclass(frozen=True)
class PartsBlob:
    """A blob that is put together of bytes in memory and of files, whenever it is read."""

    descriptor: Descriptor
    parts: tuple[bytes | FilePart, ...] = field(repr=False)

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset` on, in pieces of about 1 MiB.

        Raises:
            ImageError: A file cannot be read, or is another one by now.
        """
        return _gathered(_from(self.parts, offset))


def unreadable(path: Path, error: OSError) -> ImageError:
    """For a file that cannot be read."""
    return ImageError(
        f"cannot read {path}: {error.strerror or error}", "see that it is there, and that you may read it"
    )


def regular_file(path: Path, wanted: Descriptor | None) -> PartsBlob | None:
    """A file as the blob that is wanted; None if it is not there, or has another size, or is a link."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or (wanted and wanted.size != status.st_size):
        return None
    part = FilePart(path, 0, status.st_size, Stamp.of(status))
    return PartsBlob(wanted or Descriptor("", "", status.st_size), (part,))


def hashing(pieces: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """The same pieces. `digest` takes them in meanwhile, in a thread of its own, and has them all in the end."""
    with ThreadPoolExecutor(1, "i2v-sha256") as pool:
        last: Future[None] | None = None
        for piece in pieces:
            if last:
                last.result()  # so that no more than two pieces are held
            last = pool.submit(digest.update, piece)
            yield piece


def verified(blob: Blob) -> Iterator[bytes]:
    """A blob's bytes.

    Raises:
        ImageError: They were not what the descriptor says. This is known at their end only.
    """
    digest, size = hashlib.sha256(), 0
    for piece in hashing(blob.read(), digest):
        size += len(piece)
        yield piece
    check(blob.descriptor, digest.hexdigest(), size)


def check(wanted: Descriptor, sha256: str, size: int) -> None:
    """Raise `ImageError` unless these are the digest (64 digits) and the size that were wanted."""
    if size != wanted.size or f"sha256:{sha256}" != wanted.digest:
        raise ImageError(
            f"the blob {wanted.digest} is damaged: its {size} bytes have the digest sha256:{sha256}",
            "build or fetch the image again",
        )


def _from(parts: Iterable[bytes | FilePart], offset: int) -> Iterator[bytes]:
    for part in parts:
        size = len(part) if isinstance(part, bytes) else part.size
        if offset < size:
            if isinstance(part, bytes):
                yield part[offset:]
            else:
                yield from part.read(offset)
        offset = max(0, offset - size)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes with the small pieces joined: a bundle has hundreds of them."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
