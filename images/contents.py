"""What an image's layers come to, in the few directories where one wants to know: each file by its sha256.

Every layer is read once, as a stream, and seen as an engine sees it: it replaces what lower ones have, and takes it
away by whiteouts. Nothing is written to disk, and no more is kept of a file than its digest.

    https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from images import documents, untar
from images.blobs import hashing
from images.errors import ImageError
from images.links import Links
from images.oci import Blob, Layer
from images.unpack import is_packed, unpack
from images.untar import Entry, StreamSource

_MOST_ENTRIES = 300_000  # of a layer; an environment with torch has some 30,000
_MOST_FOUND = 10_000  # in the directories that are looked at; a model has some 30
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True)
class Found:
    """Something that is no directory.

    Attributes:
        layer: Which layer it comes from: 0 is the lowest.
        kind: As a tar archive calls it.
        sha256: In hex; "" for what is no regular file.
        content: Its bytes, where they were to be kept.
    """

    layer: int
    kind: untar.Kind
    sha256: str = ""
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Read:
    """A layer as it was read. `trouble` says why its tar makes no sense to its end; "" if it does."""

    digest: str
    size: int
    diff_id: str
    trouble: str


class Contents:
    """What is in some directories after the layers that were added so far."""

    def __init__(self, directories: tuple[str, ...], kept: frozenset[str]) -> None:
        """Begin with nothing.

        Args:
            directories: Those that are looked at, such as `app/locks`; `*` stands for any name, or a part of one.
            kept: The paths of files whose bytes are wanted too, if they are no larger than documents are.
        """
        self.found: Mapping[str, Found] = {}
        self._looked_at = re.compile("|".join(map(_to_or_into, directories)), re.DOTALL)
        self._kept = kept
        self._layers = 0
        self._links = Links()

    def below(self, directory: str) -> dict[str, Found]:
        """What is below a directory, by its path there. What stands in the directory's place is called ""."""
        start = f"{directory}/"
        inside = {path.removeprefix(start): found for path, found in self.found.items() if path.startswith(start)}
        instead = next((self.found[path] for path in _upwards(directory) if path in self.found), None)
        return inside | ({"": instead} if instead else {})

    def add(self, layer: Layer, on_bytes: Callable[[int], None]) -> Read:
        """Put a layer on top of those that were added before; what it was.

        Raises:
            ImageError: Its bytes cannot be had, or cannot be unpacked here.
        """
        packed, blob, trouble = is_packed(layer.descriptor), _Passing(layer.blob, on_bytes), ""
        digest, unpacked = hashlib.sha256(), hashlib.sha256()
        pieces = hashing(blob.pieces(), digest)
        name = f"the layer {layer.descriptor.digest}"
        tar = hashing(unpack(layer.descriptor, pieces, name), unpacked) if packed else pieces
        source, change = StreamSource(tar), _Change(self._layers, self._looked_at, self._kept, self.found)
        try:
            for entry in untar.entries(source, name, _MOST_ENTRIES):
                change.take(entry, source, self._links.leads(entry))
            change.require_sense()
        except ImageError as error:
            trouble = str(error)
        # Its digests are of all its bytes, those after the end of the archive too.
        for rest in (tar, pieces):
            try:
                for _ in rest:
                    pass
            except ImageError as error:
                trouble = trouble or str(error)
        if blob.failure:
            raise blob.failure
        self.found = change.applied()
        self._layers += 1
        return Read(_named(digest), blob.size, _named(unpacked if packed else digest), trouble)


class _Passing:
    """A blob as it is read: how much it was, and whether it could be read at all."""

    def __init__(self, blob: Blob, on_bytes: Callable[[int], None]) -> None:
        self._blob = blob
        self._on_bytes = on_bytes
        self.size = 0
        self.failure: ImageError | None = None

    def pieces(self) -> Iterator[bytes]:
        try:
            for piece in self._blob.read():
                self.size += len(piece)
                self._on_bytes(len(piece))
                yield piece
        except ImageError as error:
            self.failure = error
            raise


class _Change:
    """What one layer does to the directories that are looked at."""

    def __init__(
        self, layer: int, looked_at: re.Pattern[str], kept: frozenset[str], lower: Mapping[str, Found]
    ) -> None:
        self._layer = layer
        self._looked_at = looked_at
        self._kept = kept
        self._lower = lower
        self._added: dict[str, Found] = {}
        self._taken_away: set[str] = set()
        self._emptied: set[str] = set()
        self._directories: set[str] = set()

    def take(self, entry: Entry, source: StreamSource, leads: str) -> None:
        """An entry of the layer, whose bytes come next, and the path where it is when links are followed."""
        parent, name = posixpath.split(entry.path)
        if leads != entry.path and self._matters(leads):
            raise ImageError(f"a layer reaches {leads[:100]} by way of a link")
        if name == _OPAQUE:
            if not parent or self._matters(parent):
                self._emptied.add(parent)
        elif name.startswith(_WHITEOUT):
            gone = posixpath.join(parent, name.removeprefix(_WHITEOUT))
            if self._matters(gone):
                self._taken_away.add(gone)
        elif self._matters(entry.path):
            if entry.kind == "directory":
                self._directories.add(entry.path)
            else:
                self._added[entry.path] = self._read(entry, source)
                if len(self._added) > _MOST_FOUND:
                    raise ImageError(f"a layer has more than {_MOST_FOUND} files where few are expected")

    def require_sense(self) -> None:
        """Raise `ImageError` if the layer has what it takes away: not all engines agree on what is left then."""
        for path in self._added:
            if not self._taken_away.isdisjoint(_upwards(path)):
                raise ImageError(f"a layer has {path[:100]} and takes it away")

    def applied(self) -> dict[str, Found]:
        """What there is with this layer. What it takes away, it takes from lower ones only."""
        return {path: found for path, found in self._lower.items() if not self._hides(path)} | self._added

    def _matters(self, path: str) -> bool:
        return self._looked_at.fullmatch(path) is not None

    def _hides(self, path: str) -> bool:
        above = _upwards(path)
        return (
            path in self._directories
            or any(at in self._added or at in self._taken_away for at in above)
            or not self._emptied.isdisjoint((*above[1:], ""))
        )

    def _read(self, entry: Entry, source: StreamSource) -> Found:
        if entry.kind == "hard link":
            target = self._added.get(entry.target or "") or self._lower.get(entry.target or "")
            return replace(target, layer=self._layer) if target else Found(self._layer, "hard link")
        if entry.kind != "file":
            return Found(self._layer, entry.kind)
        digest, size, kept = hashlib.sha256(), 0, []
        for piece in source.take(entry.size):
            digest.update(piece)
            size += len(piece)
            if entry.path in self._kept and entry.size <= documents.MAX_DOCUMENT:
                kept.append(piece)
        if size < entry.size:
            raise ImageError(f"{entry.path} ends after {size} of {entry.size} bytes")
        return Found(self._layer, "file", digest.hexdigest(), b"".join(kept) if kept else None)


def _to_or_into(directory: str) -> str:
    """A regular expression for the paths of the directory, of those that it is in, and of all that is in it."""
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in directory.split("/")]
    return "(?:/".join(parts) + "(?:/.*)?" + ")?" * (len(parts) - 1)


def _upwards(path: str) -> list[str]:
    """The path, and the directories that it is in."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _named(digest: hashlib._Hash) -> str:
    return f"sha256:{digest.hexdigest()}"
