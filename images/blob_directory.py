"""A directory of blobs, each a file that is named by its sha256 and was verified when it came in.

Whatever bears a name is whole: a kill leaves a file without one, which the next run removes. One process at a time
writes; others wait. Knows nothing of images.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from images.blobs import PartsBlob, check, hashing, regular_file
from images.errors import ImageError
from images.oci import LAYER, Blob, Descriptor
from mirrors import disk
from mirrors.errors import MirrorError

_UNFINISHED = ".unfinished"


@contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into an `ImageError` that says what to do."""
    try:
        with disk.trouble(path):
            yield
    except MirrorError as error:
        raise ImageError(str(error), error.hint) from error


def put(file: io.FileIO, piece: bytes) -> int:
    """Write a piece, and have the system begin to bring it to the disk, so that little is left to wait for at the end.

    The advice is that the piece is not needed in memory. Linux then begins to write it out; it drops from memory only
    what is on the disk already, and that a new piece is not.
    """
    start, left = file.tell(), memoryview(piece)
    while left:
        left = left[file.write(left) :]
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, len(piece), os.POSIX_FADV_DONTNEED)
    return len(piece)


class BlobDirectory:
    """The blobs in the directory `path`; to add some, use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def __enter__(self) -> BlobDirectory:
        with disk_trouble(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: then it is for the user to run one at a time
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._unfinished.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def find(self, descriptor: Descriptor) -> PartsBlob | None:
        """The blob, if it is there and has its size. Its bytes were verified when they came in, and are not now."""
        return regular_file(self.path / descriptor.digest.removeprefix("sha256:"), descriptor)

    def keep(self, blob: Blob, on_bytes: Callable[[int], None]) -> None:
        """Have the blob here. `on_bytes` is told of its bytes, also of those that are here already.

        Raises:
            ImageError: It is not what its descriptor says, or the disk is full.
        """
        if self.find(blob.descriptor):
            on_bytes(blob.descriptor.size)
        else:
            self.add(blob.read(), blob.descriptor, on_bytes)

    def add(
        self, pieces: Iterable[bytes], wanted: Descriptor | None = None, on_bytes: Callable[[int], None] | None = None
    ) -> Descriptor:
        """Take bytes in, whatever they are unless something is wanted; what they were.

        Raises:
            ImageError: They are not what was wanted, or the disk is full.
        """
        digest, size = hashlib.sha256(), 0
        with disk_trouble(self.path):
            try:
                with self._unfinished.open("wb", buffering=0) as file:
                    for piece in hashing(pieces, digest):
                        size += put(file, piece)
                        if on_bytes:
                            on_bytes(len(piece))
                    found = Descriptor(LAYER, f"sha256:{digest.hexdigest()}", size)
                    if wanted:
                        check(wanted, digest.hexdigest(), size)
                    os.fsync(file.fileno())
                self._unfinished.replace(self.path / digest.hexdigest())
                disk.sync_directory(self.path)
            finally:
                self._unfinished.unlink(missing_ok=True)
        return wanted or found

    @property
    def _unfinished(self) -> Path:
        return self.path / _UNFINISHED
