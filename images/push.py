"""Pushes an image: what is missing, in parallel, and its manifest when all of it is there.

A name on the registry is never that of an image of which something is missing. What arrived stays there, so a push
that was cut off goes on with the blobs that had not arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from images.crew import Tell, in_parallel
from images.errors import ImageError
from images.oci import Blob, Image
from images.references import Reference
from images.registry import Registry
from images.spec import Outcome
from images.upload import mount, upload
from mirrors.http import HttpSettings


@dataclass(frozen=True)
class PushedBlob:
    """What became of one blob, and how long that took. `size` is in bytes."""

    digest: str
    size: int
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class Pushed:
    """An image that is on a registry: its digest there, its blobs in the manifest's order, and the whole time."""

    digest: str
    blobs: tuple[PushedBlob, ...]
    seconds: float

    @property
    def sent_bytes(self) -> int:
        """The sizes of the blobs that were sent."""
        return sum(blob.size for blob in self.blobs if blob.outcome == "sent")


def push(
    image: Image,
    reference: Reference,
    on_progress: Callable[[int], None],
    *,
    on_plan: Callable[[int], None] = lambda _bytes: None,
    siblings: Sequence[str] = (),
    http: HttpSettings | None = None,
) -> Pushed:
    """Bring the image to the registry, under that tag or, if only its digest is named, under none.

    Args:
        image: what to push.
        reference: where to.
        on_progress: called with the bytes that went out, in this thread; with a negative number if they must go out
            again. In sum they are the plan.
        on_plan: called once, before, with the bytes that have to be sent.
        siblings: other repositories on the same registry that may have some of the blobs.
        http: how to ask.

    Raises:
        ImageError: The image is not there, and why.
    """
    began = time.monotonic()
    digest = image.manifest.descriptor.digest
    if reference.digest and reference.digest != digest:
        raise ImageError(f"the image is {digest}, and cannot be pushed as {reference}", "name a tag")
    registry = Registry(reference, http, push=True, siblings=siblings)
    registry.connect()
    found = in_parallel([partial(_look_up, registry, blob, siblings) for blob in image.blobs], on_progress)
    missing = [blob for blob, known in zip(image.blobs, found, strict=True) if known is None]
    on_plan(sum(blob.descriptor.size for blob in missing))
    missing.sort(key=lambda blob: -blob.descriptor.size)  # a large one that begins last would end alone
    sent = in_parallel([partial(_send, registry, blob) for blob in missing], on_progress)
    registry.put_manifest(image.manifest.content, reference.tag or digest)
    reports = {report.digest: report for report in (*found, *sent) if report is not None}
    blobs = tuple(reports[blob.descriptor.digest] for blob in image.blobs)
    return Pushed(digest, blobs, time.monotonic() - began)


def _look_up(registry: Registry, blob: Blob, siblings: Sequence[str], _tell: Tell) -> PushedBlob | None:
    """How the registry has the blob without being sent it; None if it must be."""
    began = time.monotonic()
    digest, size = blob.descriptor.digest, blob.descriptor.size
    if registry.has_blob(digest):
        return PushedBlob(digest, size, "there already", time.monotonic() - began)
    for sibling in siblings:
        if registry.has_blob(digest, sibling) and mount(registry, digest, sibling):
            return PushedBlob(digest, size, "mounted", time.monotonic() - began)
    return None


def _send(registry: Registry, blob: Blob, tell: Tell) -> PushedBlob:
    began = time.monotonic()
    upload(registry, blob, tell)
    return PushedBlob(blob.descriptor.digest, blob.descriptor.size, "sent", time.monotonic() - began)
