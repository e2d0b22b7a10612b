"""Where an image goes, whatever it was made of; and what is told of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from images import layout, references
from images.clock import Clock
from images.deliver import deliver
from images.engine import connect
from images.errors import ImageError
from images.oci import Bytes, Image, Layer
from images.push import push
from images.rates import Rate
from images.references import Reference
from images.referrers import attach
from images.registry_http import settings
from images.siblings import Siblings
from images.spec import SBOM_PATH, Built, Destination, ImageSpec, LayerReport, Outcome
from mirrors.http import HttpSettings


@dataclass(frozen=True)
class Delivery:
    """Where an image goes, and how that is told.

    Attributes:
        spec: What the image was made of.
        destination: Where it goes.
        http: How a registry is spoken to.
        siblings: The repositories that were pushed to before.
        on_line: Called with each line of progress, by any thread.
        clock: Told of the phases.
    """

    spec: ImageSpec
    destination: Destination
    http: HttpSettings | None
    siblings: Siblings
    on_line: Callable[[str], None]
    clock: Clock

    def hand_over(self, image: Image, listed: Bytes | None) -> Built:
        """Bring the image to wherever it is to go; on a registry, `listed` is attached to it.

        Raises:
            ImageError: It is not there, and why.
        """
        outcomes: dict[str, Outcome] = {}
        warnings: tuple[str, ...] = ()
        if self.destination.local:
            with self.clock.phase("into the engine"), connect() as engine:
                sent = deliver(engine, image, self.spec.tag, Rate("given to the engine", self.on_line)).sent
                outcomes = dict.fromkeys(
                    {layer.descriptor.digest for layer in image.layers} - sent.keys(), "there already"
                )
        if self.destination.output:
            with self.clock.phase("write"):
                layout.write(image, self.destination.output, self.spec.tag, Rate("written", self.on_line))
        if self.destination.push:
            with self.clock.phase("push"):
                reference = references.parse(self.destination.push)
                outcomes = self._push(image, reference)
                warnings = self._attach(listed, image, reference) if listed else ()
        rows = reports(image.layers, outcomes, "sent")
        size = sum(row.size for row in rows)
        return Built(image.manifest.descriptor.digest, size, tuple(self.clock.phases), rows, warnings)

    def _attach(self, listed: Bytes, image: Image, reference: Reference) -> tuple[str, ...]:
        """Attach the list to the image that was pushed, which is whole without it; what to say if that fails."""
        name = PurePosixPath(SBOM_PATH).name
        try:
            attach(listed, name, image.manifest.descriptor, reference, settings(self.http))
        except ImageError as error:
            return (f"the image is there, but the list of what is in it (SBOM) could not be attached to it: {error}",)
        return ()

    def _push(self, image: Image, reference: Reference) -> dict[str, Outcome]:
        rate, origin = Rate("sent", self.on_line), self.spec.slim.reference if self.spec.slim else None
        others = self.siblings.of(reference, origin)
        pushed = push(image, reference, rate, on_plan=rate.expect, siblings=others, http=settings(self.http))
        self.siblings.keep(reference)
        return {blob.digest: blob.outcome for blob in pushed.blobs}


def _digests(image: Image) -> Iterator[str]:
    return (layer.descriptor.digest for layer in image.layers)


def reports(layers: Sequence[Layer], outcomes: Mapping[str, Outcome], otherwise: Outcome) -> tuple[LayerReport, ...]:
    """What became of each layer; of one that nothing is said of, `otherwise`."""
    described = ((layer.descriptor, layer.made_by) for layer in layers)
    return tuple(LayerReport(it.digest, it.size, about, outcomes.get(it.digest, otherwise)) for it, about in described)
