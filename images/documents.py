"""Reads what others wrote of an image: index, manifest and configuration. None of them is trusted to be well-formed.

Knows no disk and no network: where a blob lies is for the caller to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from images.errors import ImageError
from images.oci import DOCKER_LAYERS, LAYER, Blob, Bytes, Descriptor, Layer

#: The largest document that is read, in bytes.
MAX_DOCUMENT = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLAIN = (LAYER, *(docker for docker, oci in DOCKER_LAYERS.items() if oci == LAYER))
_ATTESTATION = "vnd.docker.reference.type"


@contextmanager
def malformed(what: str) -> Iterator[None]:
    """Turns what a document that is not as it should be leads to into an `ImageError`."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ImageError(f"{what} is malformed ({error!r:.200})", "build or fetch the image again") from None


def digest(value: object) -> str:
    """The value, which has the form of a digest, so that it can name a file; `ValueError` if it has not."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("a digest is not sha256: and 64 digits")
    return value


def descriptor(row: Mapping[str, Any]) -> Descriptor:
    """As a document has it."""
    size = row["size"]
    if not isinstance(size, int) or size < 0:
        raise ValueError("a size is no number")
    annotations = {str(name): str(value) for name, value in (row.get("annotations") or {}).items()}
    return Descriptor(str(row.get("mediaType") or ""), digest(row["digest"]), size, annotations)


def fitting(rows: Sequence[Mapping[str, Any]], architecture: str) -> list[Mapping[str, Any]]:
    """Those rows of an index that are images for Linux on that architecture, each digest once.

    A row that does not say what it is for counts if no other does.
    """
    images = {
        row["digest"]: row
        for row in rows
        if _ATTESTATION not in (row.get("annotations") or {}) and _platform(row) != "unknown/unknown"
    }
    named = [row for row in images.values() if _platform(row) == f"linux/{architecture}"]
    return named or [row for row in images.values() if not row.get("platform")]


def platforms(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the images of an index are for, for people."""
    return ", ".join(sorted({_platform(row) for row in rows} - {"unknown/unknown"})) or "nothing"


def layers(config: Bytes, blobs: Sequence[Blob]) -> tuple[Layer, ...]:
    """These blobs as the layers that the configuration speaks of, bottom first."""
    settings = json.loads(config.content)
    diff_ids = [digest(diff_id) for diff_id in settings["rootfs"]["diff_ids"]]
    if len(blobs) != len(diff_ids):
        raise ValueError(f"{len(blobs)} layers and {len(diff_ids)} digests of them")
    made_by = [str(step.get("created_by", "")) for step in settings.get("history") or () if not step.get("empty_layer")]
    if len(made_by) != len(blobs):
        made_by = [""] * len(blobs)
    for blob, diff_id in zip(blobs, diff_ids, strict=True):
        if blob.descriptor.media_type in _PLAIN and blob.descriptor.digest != diff_id:
            raise ValueError("an uncompressed layer has two digests")
    return tuple(map(Layer, blobs, diff_ids, made_by))


def _platform(row: Mapping[str, Any]) -> str:
    platform = row.get("platform") or {}
    return f"{platform.get('os', '')}/{platform.get('architecture', '')}"
