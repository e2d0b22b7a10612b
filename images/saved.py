"""Finds an image among named documents and blobs: an OCI layout's, or those of what `docker save` writes.

Docker 25 and newer save an OCI layout, older ones `manifest.json` only, with layers that are not compressed. The
documents are held against their digests. Knows neither disk nor tar: a `Shelf` has both at hand.

    https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from images import documents, references
from images.blobs import check
from images.errors import ImageError
from images.oci import (
    CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    LAYER,
    MANIFEST,
    Blob,
    Bytes,
    Descriptor,
    Image,
    assemble,
    digest_of,
)

#: In an entry of an index: the image's full name, and its tag.
NAME, TAG = "io.containerd.image.name", "org.opencontainers.image.ref.name"
_DEEPEST = 3  # indexes within indexes


class Shelf(Protocol):
    """What was saved, by the names that it has in there. `name` is what people call it."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def blob(self, path: str, wanted: Descriptor | None) -> Blob | None:
        """The blob of that path; None if there is none, or if it has another size than is wanted."""
        ...


def blob_path(digest: str) -> str:
    """Where a layout keeps the blob."""
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


@dataclass(frozen=True)
class Wanted:
    """Which image is meant, if there are several: by its name, "" for any; and by its processor, as OCI calls it."""

    tag: str = ""
    architecture: str = "amd64"


def in_layout(shelf: Shelf, wanted: Wanted) -> Image:
    """The image that is wanted, of an OCI layout. Only names that a layout has are asked for.

    Raises:
        ImageError: It is not there, or not whole, or there are several that could be meant.
    """
    with documents.malformed(f"the image in {shelf.name}"):
        if (index := _document(shelf, "index.json")) is not None:
            return _of_layout(shelf, json.loads(index)["manifests"], wanted)
    raise _no_image(shelf)


def in_archive(shelf: Shelf, wanted: Wanted) -> Image:
    """The image that is wanted, of an OCI layout or of what Docker wrote before it wrote those.

    Raises:
        ImageError: As for `in_layout`.
    """
    with documents.malformed(f"the image in {shelf.name}"):
        if _document(shelf, "index.json") is not None:
            return in_layout(shelf, wanted)
        if (listed := _document(shelf, "manifest.json")) is not None:
            return _of_old_docker(shelf, json.loads(listed), wanted)
    raise _no_image(shelf)


def _of_layout(shelf: Shelf, rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> Image:
    named = [row for row in rows if not wanted.tag or _is_called(row.get("annotations") or {}, wanted.tag)]
    if not named:
        raise _not_there(shelf, wanted, [_called(row.get("annotations") or {}) for row in rows])
    for _ in range(_DEEPEST):
        # What the index adds is about its own names for the image.
        described = replace(documents.descriptor(_only(shelf, named, wanted)), annotations={})
        found = Bytes(described, _verified(shelf, described))
        document = json.loads(found.content)
        kind = found.descriptor.media_type or document.get("mediaType")
        if kind not in (INDEX, DOCKER_INDEX):
            break
        # Of an image for many platforms an engine saves the index whole, but only what it has of the rest.
        named = [
            inner for inner in document["manifests"] if shelf.blob(blob_path(documents.digest(inner["digest"])), None)
        ]
    if kind not in (MANIFEST, DOCKER_MANIFEST):
        raise ValueError(f"it is {kind!r:.100}")
    described = documents.descriptor(document["config"])
    config = Bytes(described, _verified(shelf, described))
    blobs = [_blob(shelf, blob_path(layer.digest), layer) for layer in map(documents.descriptor, document["layers"])]
    return Image(found, config, documents.layers(config, blobs))


def _of_old_docker(shelf: Shelf, rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> Image:
    named = [row for row in rows if not wanted.tag or _same(wanted.tag, row.get("RepoTags") or ())]
    if not named:
        raise _not_there(shelf, wanted, [str(tag) for row in rows for tag in row.get("RepoTags") or ()])
    if len(named) > 1:
        raise _ambiguous(shelf)
    content = _document(shelf, str(named[0]["Config"]))
    if content is None:
        raise ValueError("its configuration is missing")
    config = Bytes(Descriptor(CONFIG, digest_of(content), len(content)), content)
    diff_ids = json.loads(content)["rootfs"]["diff_ids"]
    blobs = []
    for path, diff_id in zip(named[0]["Layers"], diff_ids, strict=True):
        layer = _blob(shelf, str(path), None).descriptor
        blobs.append(_blob(shelf, str(path), Descriptor(LAYER, documents.digest(diff_id), layer.size)))
    return assemble(config, documents.layers(config, blobs))


def _only(shelf: Shelf, rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> Mapping[str, Any]:
    found = documents.fitting(rows, wanted.architecture)
    if not found:
        raise ImageError(
            f"{shelf.name} is not for linux/{wanted.architecture}, but for {documents.platforms(rows)}",
            "name another image",
        )
    if len(found) > 1:
        raise _ambiguous(shelf)
    return found[0]


def _blob(shelf: Shelf, path: str, wanted: Descriptor | None) -> Blob:
    blob = shelf.blob(path, wanted)
    if blob is None:
        raise ValueError(f"{path} is missing, or is not all there")
    return blob


def _document(shelf: Shelf, path: str) -> bytes | None:
    blob = shelf.blob(path, None)
    if blob is None:
        return None
    if blob.descriptor.size > documents.MAX_DOCUMENT:
        raise ValueError(f"{path} is larger than {documents.MAX_DOCUMENT >> 20} MiB")
    return b"".join(blob.read())


def _verified(shelf: Shelf, descriptor: Descriptor) -> bytes:
    content = _document(shelf, blob_path(descriptor.digest))
    if content is None:
        raise ValueError(f"{descriptor.digest} is missing")
    check(descriptor, digest_of(content).removeprefix("sha256:"), len(content))
    return content


def _called(annotations: Mapping[str, str]) -> str:
    return str(annotations.get(NAME) or annotations.get(TAG) or "")


def _is_called(annotations: Mapping[str, str], tag: str) -> bool:
    return annotations.get(TAG) == tag if NAME not in annotations else _same(tag, (annotations[NAME],))


def _same(tag: str, names: Sequence[str]) -> bool:
    full = str(references.parse(tag))
    return any(str(references.parse(name)) == full for name in names)


def _no_image(shelf: Shelf) -> ImageError:
    return ImageError(f"{shelf.name} holds no image", "name an OCI layout, or what docker save wrote")


def _not_there(shelf: Shelf, wanted: Wanted, names: Sequence[str]) -> ImageError:
    others = ", ".join(sorted({name for name in names if name})) or "images without a name"
    return ImageError(f"{shelf.name} holds no image {wanted.tag}", f"it holds {others}")


def _ambiguous(shelf: Shelf) -> ImageError:
    return ImageError(f"{shelf.name} holds several images", "say which is meant, by its name")
