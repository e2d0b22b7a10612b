"""Images in tar archives: an OCI layout in one file, as `docker load`, skopeo, podman and containerd read it.

An archive that is written is the same bytes for the same image. One that is read is taken as hostile; reading from a
file looks at the entries' headers only, a stream is unpacked into a directory of blobs.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images import documents, saved, tars
from images.blob_directory import BlobDirectory, disk_trouble, put
from images.blobs import FilePart, PartsBlob, Stamp, unreadable, verified
from images.errors import ImageError
from images.oci import LAYER, Blob, Bytes, Descriptor, Image, digest_of
from images.saved import Wanted
from images.untar import Entry, FileSource, StreamSource, entries
from mirrors import disk

_MAX_DOCUMENTS = 16 << 20  # bytes of all those of a stream that are not blobs
_BLOBS = "blobs/sha256/"


def write(texts: Mapping[str, bytes], blobs: Iterable[Blob], target: Path, on_bytes: Callable[[int], None]) -> None:
    """Write these documents and blobs. The archive is there whole or not at all.

    Raises:
        ImageError: A blob is not what its descriptor says, the disk is full, or another run writes the same archive.
    """
    with disk_trouble(target), _unfinished(target) as file:
        for path, content in texts.items():
            put(file, tars.file(path, len(content)) + content + tars.padding(len(content)))
        for directory in ("blobs", "blobs/sha256"):
            put(file, tars.directory(directory))
        for blob in blobs:
            size = blob.descriptor.size
            put(file, tars.file(saved.blob_path(blob.descriptor.digest), size))
            for piece in verified(blob):
                put(file, piece)
                on_bytes(len(piece))
            put(file, tars.padding(size))
        put(file, tars.END)


@contextmanager
def _unfinished(target: Path) -> Iterator[io.FileIO]:
    """A file beside the target that takes its place at the end. What a kill leaves is taken over by the next run."""
    path = target.with_name(f".{target.name}.unfinished")
    with path.open("ab", buffering=0) as file:
        if not _is_ours(file, path):
            raise ImageError(f"another run writes {target} just now", "wait for it, or name another file")
        try:
            file.truncate(0)
            yield file
            os.fsync(file.fileno())
            path.replace(target)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    disk.sync_directory(target.parent)


def _is_ours(file: io.FileIO, path: Path) -> bool:
    """Take the file for us alone. One that another run has meanwhile put in its place is that run's."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def read(path: Path, wanted: Wanted) -> Image:
    """The image in an archive, which its layers go on being read from.

    Raises:
        ImageError: There is none, or the archive is damaged or hostile.
    """
    try:
        with path.open("rb") as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            found = {entry.path: entry for entry in entries(FileSource(file), str(path))}
    except OSError as error:
        raise unreadable(path, error) from error
    return saved.in_archive(_FileShelf(str(path), path, stamp, found), wanted)


def unpack(pieces: Iterable[bytes], directory: Path, wanted: Wanted, name: str) -> Image:
    """The image in an archive that comes in as a stream. Its blobs are kept in `directory`, each verified.

    Blobs that are there already are passed over.

    Args:
        pieces: The archive.
        directory: Where the blobs go, by sha256.
        wanted: Which image.
        name: What people call the archive.

    Raises:
        ImageError: There is none, the archive is damaged or hostile, or the disk is full.
    """
    source = StreamSource(pieces)
    with BlobDirectory(directory) as blobs:
        shelf = _StreamShelf(name, blobs)
        for entry in entries(source, name):
            shelf.take(entry, source)
    return saved.in_archive(shelf, wanted)


@dataclass(frozen=True)
class _FileShelf:
    """An archive that lies in a file."""

    name: str
    path: Path
    stamp: Stamp
    found: Mapping[str, Entry]

    def blob(self, path: str, wanted: Descriptor | None) -> Blob | None:
        """The bytes of an entry, wherever they are in the archive."""
        entry = _resolved(self.found, path)
        if entry is None or (wanted and wanted.size != entry.size):
            return None
        descriptor = wanted or Descriptor("", "", entry.size)
        return PartsBlob(descriptor, (FilePart(self.path, entry.at, entry.size, self.stamp),))


class _StreamShelf:
    """An archive that has gone by: its documents in memory, its blobs in a directory."""

    def __init__(self, name: str, blobs: BlobDirectory) -> None:
        self.name = name
        self._blobs = blobs
        self._found: dict[str, Entry] = {}
        self._documents: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}
        self._room = _MAX_DOCUMENTS

    def take(self, entry: Entry, source: StreamSource) -> None:
        """Keep an entry, whose bytes come next."""
        self._found[entry.path] = entry
        if not entry.is_file:
            return
        if entry.path.startswith(_BLOBS):
            with documents.malformed(self.name):
                digest = documents.digest(f"sha256:{entry.path.removeprefix(_BLOBS)}")
            described = Descriptor(LAYER, digest, entry.size)
            if not self._blobs.find(described):
                self._blobs.add(source.take(entry.size), described)
            self._digests[entry.path] = digest
        elif entry.path.endswith(".tar"):
            self._digests[entry.path] = self._blobs.add(source.take(entry.size)).digest
        else:
            self._room -= entry.size
            if entry.size > documents.MAX_DOCUMENT or self._room < 0:
                raise ImageError(f"{self.name} holds documents that are too large", "save or fetch it again")
            self._documents[entry.path] = source.read(entry.size)

    def blob(self, path: str, wanted: Descriptor | None) -> Blob | None:
        """What was kept of an entry."""
        entry = _resolved(self._found, path)
        if entry is None:
            return None
        if (content := self._documents.get(entry.path)) is not None:
            return Bytes(Descriptor("", digest_of(content), len(content)), content)
        digest = self._digests[entry.path]
        if wanted and wanted.digest != digest:
            return None
        return self._blobs.find(wanted or Descriptor("", digest, entry.size))


def _resolved(found: Mapping[str, Entry], path: str) -> Entry | None:
    """The file of that name; Docker links a layer that an archive has twice to its first place in the archive."""
    entry = found.get(path)
    if entry and entry.target is not None:
        entry = found.get(entry.target)
    return entry if entry and entry.is_file else None
