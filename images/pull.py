"""An image on a registry, as an `oci.Image`: its manifest and configuration are read, its layers only when wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from images import documents
from images.errors import ImageError
from images.oci import CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Bytes, Descriptor, Image
from images.references import Reference
from images.registry import Registry
from images.registry_errors import damaged
from mirrors.http import HttpSettings

_OS = "linux"
_MOST_CONFIG = 8 << 20  # bytes


def pull(reference: Reference, architecture: str = "amd64", http: HttpSettings | None = None) -> Image:
    """The image of that name for Linux on that architecture, as OCI calls it ("amd64", "arm64").

    Raises:
        ImageError: There is none, or it is not what it should be.
    """
    registry = Registry(reference, http)
    manifest = registry.manifest(reference.target)
    try:
        if manifest.descriptor.media_type in (INDEX, DOCKER_INDEX):
            chosen = _chosen(reference, json.loads(manifest.content), architecture)
            manifest = registry.manifest(chosen.digest)
        if manifest.descriptor.media_type not in (MANIFEST, DOCKER_MANIFEST):
            raise ImageError(
                f"{reference} is no image of a known form, but {manifest.descriptor.media_type or 'nothing known'}",
                "push it anew with a Docker of this decade",
            )
        return _image(registry, manifest, architecture)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(reference, str(reference), f"its manifest or configuration is malformed ({error})") from None


def _chosen(reference: Reference, index: Mapping[str, Any], architecture: str) -> Descriptor:
    platforms = [(row.get("platform") or {}, row) for row in index["manifests"]]
    fitting = [row for platform, row in platforms if _names(platform) == f"{_OS}/{architecture}"]
    if not fitting:
        others = ", ".join(sorted({_names(platform) for platform, _ in platforms} - {"unknown/unknown"}))
        raise ImageError(
            f"{reference} is not for {_OS}/{architecture}, but for {others or 'nothing'}", "name another image"
        )
    return documents.descriptor(fitting[0])


def _names(platform: Mapping[str, Any]) -> str:
    return f"{platform.get('os')}/{platform.get('architecture')}"


def _image(registry: Registry, manifest: Bytes, architecture: str) -> Image:
    reference, document = registry.reference, json.loads(manifest.content)
    descriptor = documents.descriptor(document["config"])
    descriptor = replace(descriptor, media_type=descriptor.media_type or CONFIG)
    if descriptor.size > _MOST_CONFIG:
        raise damaged(reference, "an image's configuration", f"it is larger than {_MOST_CONFIG >> 20} MiB")
    config = Bytes(descriptor, b"".join(registry.blob(descriptor).read()))
    settings = json.loads(config.content)
    made_for = settings.get("architecture") or architecture
    if made_for != architecture:
        raise ImageError(f"{reference} is not for {_OS}/{architecture}, but for {made_for}", "name another image")
    blobs = [registry.blob(documents.descriptor(layer)) for layer in document["layers"]]
    return Image(manifest, config, documents.layers(config, blobs))
