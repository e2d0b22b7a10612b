"""Attaches a document to an image that is on a registry, as a referrer of it: what scanners look for beside an image.

A registry that knows referrers lists them by itself. For others there is an index of them, under a tag that is made of
the image's digest; it is read, added to and written again, so of two who do that at the same moment one may be left
out. The image itself is never touched.

    https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from images import documents
from images.crew import in_parallel
from images.errors import ImageError
from images.oci import INDEX, MANIFEST, Bytes, Descriptor, bytes_of, digest_of
from images.references import Reference
from images.registry import Registry
from images.registry_errors import RegistryError
from images.upload import upload
from mirrors.http import HttpSettings

_TITLE = "org.opencontainers.image.title"
_NOTHING = Bytes(Descriptor("application/vnd.oci.empty.v1+json", digest_of(b"{}"), 2), b"{}")
_KNOWS_REFERRERS = "OCI-Subject"  # in the answer of a registry that lists the referrer by itself


def attach(
    document: Bytes, name: str, subject: Descriptor, reference: Reference, http: HttpSettings | None = None
) -> str:
    """Attach a document to an image; the digest of the manifest that does it. Done twice, it is there once.

    Args:
        document: Its media type is the kind of the referrer.
        name: The file name that tools give it.
        subject: The image's manifest, which is there.
        reference: Names the repository.
        http: How the registry is asked.

    Raises:
        ImageError: The document is not attached, and why.
    """
    registry = Registry(reference, http, push=True)
    manifest = _manifest(document, name, subject)
    # In a thread, as all that is sent: an interrupt hangs up on it.
    in_parallel([lambda _tell: _send(registry, document, manifest, subject)], lambda _size: None)
    return manifest.descriptor.digest


def fallback_tag(subject: Descriptor) -> str:
    """The tag under which the referrers of an image are listed where a registry does not know of such."""
    return subject.digest.replace(":", "-")


def _send(registry: Registry, document: Bytes, manifest: Bytes, subject: Descriptor) -> None:
    for blob in (document, _NOTHING):
        if not registry.has_blob(blob.descriptor.digest):
            upload(registry, blob, lambda _size: None)
    where = f"{registry.reference.repository}/manifests/{manifest.descriptor.digest}"
    what = f"the referrer {manifest.descriptor.digest}"
    with registry.ask("PUT", where, what, (201,), {"Content-Type": MANIFEST}, manifest.content) as answer:
        registry.acknowledged(answer, manifest.descriptor.digest)
        if answer.headers.get(_KNOWS_REFERRERS) == subject.digest:
            return
    _list_by_tag(registry, manifest, document.descriptor.media_type, fallback_tag(subject))


def _list_by_tag(registry: Registry, manifest: Bytes, kind: str, tag: str) -> None:
    rows = _listed(registry, tag)
    if any(row.get("digest") == manifest.descriptor.digest for row in rows):
        return
    row = {**manifest.descriptor.document(), "artifactType": kind}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*rows, row]}
    registry.put_manifest(bytes_of(INDEX, index).content, tag)


def _listed(registry: Registry, tag: str) -> Sequence[Mapping[str, Any]]:
    """The referrers that are listed under the tag. What others listed stays as they wrote it."""
    try:
        found = registry.manifest(tag)
    except RegistryError as error:
        if error.status == 404:
            return ()
        raise
    what = f"{registry.reference.name}:{tag}"
    with documents.malformed(what):
        document = json.loads(found.content)
        if document.get("mediaType", INDEX) != INDEX:
            raise ImageError(
                f"{what} is no list of referrers", "another image has that tag: remove it, then push again"
            )
        return [dict(row) for row in document["manifests"]]


def _manifest(document: Bytes, name: str, subject: Descriptor) -> Bytes:
    layer = replace(document.descriptor, annotations={_TITLE: name})
    return bytes_of(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": document.descriptor.media_type,
            "config": _NOTHING.descriptor.document(),
            "layers": [layer.document()],
            "subject": replace(subject, annotations={}).document(),
        },
    )
