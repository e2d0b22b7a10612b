"""Images as OCI layouts, in a directory or in a tar archive, written and read. Needs no engine.

    oci-layout              the version of the format
    index.json              the images by name
    blobs/sha256/abcd…      all the rest: manifests, configurations, layers
    manifest.json           in an archive: the same in the words of older engines

Several images may share a directory, and then share their blobs. It is whole at any moment, since the index is written
last. An image that is replaced there leaves its blobs behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from images import archive, documents, references, saved
from images.blob_directory import BlobDirectory, disk_trouble
from images.blobs import regular_file
from images.oci import INDEX, Blob, Descriptor, Image
from images.saved import NAME, TAG, Wanted
from mirrors import disk

_VERSION = {"imageLayoutVersion": "1.0.0"}


def write(image: Image, target: Path, tag: str | None = None, on_bytes: Callable[[int], None] | None = None) -> None:
    """Write the image into a directory, beside what is there, or as a tar archive if the name ends in `.tar`.

    Args:
        image: Its layers are read once, and verified.
        target: The directory or archive.
        tag: The image's name; it is taken from another image that bears it.
        on_bytes: Told of the bytes of blobs, also of those that are there already.

    Raises:
        ImageError: A layer is not what it should be, the disk is full, or `tag` is no name of an image.
    """
    tell = on_bytes or (lambda _count: None)
    entry = _entry(image, tag)
    blobs = (image.manifest, image.config, *image.blobs[:-1])  # documents first: a stream is understood early
    if target.suffix == ".tar":
        texts = {"oci-layout": _VERSION, "index.json": _index([entry]), "manifest.json": _for_docker(image, entry)}
        archive.write({path: _json(text) for path, text in texts.items()}, blobs, target, tell)
        return
    with BlobDirectory(target / "blobs" / "sha256") as directory:
        before = _rows(target)
        for blob in blobs:
            directory.keep(blob, tell)
        with disk_trouble(target):
            _replace(target / "oci-layout", _json(_VERSION))
            _replace(target / "index.json", _json(_index([*(row for row in before if not _same(row, entry)), entry])))


def read(path: Path, tag: str = "", architecture: str = "amd64") -> Image:
    """The image in a layout, a directory or an archive, or in what `docker save` of any age wrote.

    Its documents are verified; its layers are read from there whenever they are, and verified by whoever takes them.

    Args:
        path: The directory or archive. It must stay as it is as long as the image is in use.
        tag: Its name, where there are several.
        architecture: As OCI calls it ("amd64", "arm64"), where there are several.

    Raises:
        ImageError: There is no such image, or it is damaged, or several could be meant.
    """
    wanted = Wanted(tag, architecture)
    return saved.in_layout(_DirectoryShelf(path), wanted) if path.is_dir() else archive.read(path, wanted)


def read_stream(
    pieces: Iterable[bytes], directory: Path, tag: str = "", architecture: str = "amd64", *, name: str = "the stream"
) -> Image:
    """The image in an archive that comes in as a stream, such as docker-py's `get_image`.

    Args:
        pieces: The archive, as `read` takes it.
        directory: Where its blobs are kept, each verified, by sha256. One that is there already is passed over.
        tag: As for `read`.
        architecture: As for `read`.
        name: What people call the archive.

    Raises:
        ImageError: There is no such image, or the archive is damaged, or hostile, or the disk is full. What `pieces`
            raises is passed on.
    """
    return archive.unpack(pieces, directory, Wanted(tag, architecture), name)


@dataclass(frozen=True)
class _DirectoryShelf:
    """A layout in a directory."""

    path: Path

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.path)

    def blob(self, path: str, wanted: Descriptor | None) -> Blob | None:
        """A file of the layout."""
        return regular_file(self.path / path, wanted)


def _entry(image: Image, tag: str | None) -> Descriptor:
    if not tag:
        return image.manifest.descriptor
    reference = references.parse(tag)
    names = {NAME: str(reference), **({TAG: reference.tag} if reference.tag else {})}
    return replace(image.manifest.descriptor, annotations=names)


def _index(rows: Iterable[Descriptor | Mapping[str, Any]]) -> dict[str, Any]:
    manifests = [row.document() if isinstance(row, Descriptor) else row for row in rows]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}


def _for_docker(image: Image, entry: Descriptor) -> list[dict[str, Any]]:
    """What `docker load` goes by where images are not kept in containerd's store."""
    return [
        {
            "Config": saved.blob_path(image.config.descriptor.digest),
            "RepoTags": [entry.annotations[NAME]] if NAME in entry.annotations else None,
            "Layers": [saved.blob_path(layer.descriptor.digest) for layer in image.layers],
        }
    ]


def _rows(target: Path) -> list[Mapping[str, Any]]:
    """The images that the directory has so far."""
    path = target / "index.json"
    if not path.exists():
        return []
    with disk_trouble(path), documents.malformed(str(path)):
        rows = json.loads(path.read_bytes())["manifests"]
        return [dict(row) for row in rows]


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _replace(path: Path, content: bytes) -> None:
    """Put the file there at once; the directory's lock is held, so nobody else does."""
    temporary = path.with_name(f".{path.name}.unfinished")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    disk.sync_directory(path.parent)


def _same(row: Mapping[str, Any], entry: Descriptor) -> bool:
    """Whether the new entry takes the place of the row: it has its name, or neither has one and they are one image."""
    name = (row.get("annotations") or {}).get(NAME)
    return name == entry.annotations.get(NAME) and (name is not None or row.get("digest") == entry.digest)
