"""Plans an image and makes it: the weights as layers of our own, and all else by `docker buildx build`.

    into the local engine       the weights go below the base image, once; the build goes on from there
    to a registry or a layout   the build goes on from the base image; the layers are put together here
    weights on top              the same, whatever the image goes to
    weights alone, or put into an image that is there: nothing is built, and no engine is needed

The build never sees the weights: they cannot be sent twice, and no change of code or packages touches them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from images import slim
from images.application import Application
from images.blob_directory import disk_trouble
from images.clock import Clock
from images.composition import as_built, as_parts, composed
from images.delivery import Delivery, reports
from images.engine import check_builds, connect, find_buildx
from images.inputs import Recipe, shipped_recipe
from images.layers import weight_layers, weights_image
from images.oci import Bytes, Layer
from images.rates import Rate
from images.siblings import Siblings
from images.spec import Built, Destination, ImageSpec, Outcome, PlannedStep
from images.weights_base import with_weights_below
from mirrors.http import HttpSettings
from runtime import __version__

_WORKPLACE = "i2v-image-"

#: Files below `scratch`: the digests of weights, what became of other layers, and the repositories pushed to.
_KNOWN_LAYERS, _PACKED_LAYERS, _SIBLINGS = "weight-layers.json", "packed-layers.json", "pushed-to.json"


def plan(
    spec: ImageSpec,
    *,
    destination: Destination | None = None,
    wheel_bytes: int | None = None,
    recipe: Recipe | None = None,
) -> tuple[PlannedStep, ...]:
    """What `build` would do, in order. Asks no engine, sends nothing, and needs neither the wheels nor the model.

    Args:
        spec: What to build.
        destination: Where it goes.
        wheel_bytes: What the wheels come to, where that is known.
        recipe: Another Dockerfile than the one that came with this package.

    Raises:
        ImageError: There is no lock for the torch build.
    """
    destination = destination or Destination()
    model = spec.model
    amount = f"{model.weight_bytes:,} bytes" if model.exact else f"about {model.weight_bytes / 1e9:.1f} GB"
    files = f"{model.id}: {len(model.files)} files, {amount}, verified"
    steps = []
    if spec.weights != "mounted":
        where = "alone in their image" if spec.weights == "volume" else "on top" if spec.on_top else "below all else"
        steps.append(PlannedStep("model", f"{files}, as layers of their own, {where}"))
    if spec.slim is not None:
        steps.append(slim.planned(spec.slim))
    elif spec.is_built:
        (recipe or shipped_recipe()).lock(spec.torch_build)
        size = "" if wheel_bytes is None else f", {wheel_bytes / 1e6:.0f} MB"
        steps += [
            PlannedStep("base image", spec.base_image),
            PlannedStep("packages", f"{len(spec.wheels)} wheels{size}, by hash from the lock {spec.torch_build}"),
            PlannedStep("application", f"runtime {__version__}"),
        ]
    if spec.weights == "mounted":
        steps.append(PlannedStep("model", f"{model.id}: not in the image, mounted when it runs"))
    if destination.local:
        steps.append(PlannedStep("image", f"{spec.tag}, in the Docker engine"))
    if destination.push:
        steps.append(PlannedStep("push", f"{destination.push}: what the registry lacks"))
    if destination.output:
        steps.append(PlannedStep("write", f"{destination.output}: an OCI layout"))
    return tuple(steps)


def require_engine(spec: ImageSpec, destination: Destination) -> None:
    """See that the image can be made here, before much is fetched for it; no engine is asked for what needs none.

    Raises:
        ImageError: There is no engine, or it is too old, or buildx is missing.
    """
    if spec.is_built or destination.local:
        with connect() as engine:
            if spec.is_built:
                check_builds(engine.info())
    if spec.is_built:
        find_buildx()


def build(
    spec: ImageSpec,
    on_line: Callable[[str], None],
    *,
    destination: Destination | None = None,
    recipe: Recipe | None = None,
    scratch: Path | None = None,
    http: HttpSettings | None = None,
    timeout: float | None = None,
) -> Built:
    """Build the image and bring it where it is to go.

    Interrupted, it ends the build and tags nothing; what was built or sent is kept for the next time.

    Args:
        spec: What to build.
        on_line: Called with each line of progress, free of passwords, by any thread.
        destination: Where it goes.
        recipe: Another Dockerfile than the one that came with this package.
        scratch: A directory where things are put together, on the disk of the wheels as links and not as copies, and
            where the digests of weights are kept once they were read, and the repositories that were pushed to.
        http: How a registry is spoken to.
        timeout: Seconds after which to give up the build.

    Raises:
        ImageError: The image cannot be built or delivered; the message says why, the hint what to do.
    """
    destination, recipe, clock = destination or Destination(), recipe or shipped_recipe(), Clock()
    with _workplace(scratch) as directory:
        kept = scratch or directory
        delivery = Delivery(spec, destination, http, Siblings(kept / _SIBLINGS), on_line, clock)

        def read_weights() -> tuple[Layer, ...]:
            with clock.phase("weights"):
                return weight_layers(spec.model, spec.model_dir, kept / _KNOWN_LAYERS, Rate("weights read", on_line))

        if spec.weights == "volume":
            return delivery.hand_over(weights_image(spec.model, read_weights()), _weights_listed(spec, destination))
        if spec.slim is not None:
            made = slim.filled(spec.slim, spec.model, spec.model_dir, read_weights(), on_top=spec.on_top)
            return delivery.hand_over(*made)
        with connect() as engine:
            check_builds(engine.info())
            application = Application(
                spec, recipe, engine, find_buildx(), directory, on_line=on_line, timeout=timeout, clock=clock
            )
            weights = read_weights() if spec.weights == "baked" else ()
            if destination.local and not (spec.on_top and weights):
                return _built_on_weights(application, weights)
            rest = as_built if destination.local else partial(as_parts, kept / _PACKED_LAYERS)
            with composed(application, weights, rest) as (image, listed):
                return delivery.hand_over(image, listed)


@contextmanager
def _workplace(parent: Path | None) -> Iterator[Path]:
    """A directory for the time of a build."""
    with disk_trouble(parent or Path(tempfile.gettempdir())):
        made = tempfile.TemporaryDirectory(prefix=_WORKPLACE, dir=parent)
    with made as name:
        yield Path(name)


def _built_on_weights(application: Application, weights: Sequence[Layer]) -> Built:
    """In the engine, from a base image that has the weights below it."""
    spec, engine, clock = application.spec, application.engine, application.clock
    base, sent = spec.base_image, frozenset[str]()
    if weights:
        with clock.phase("weights into the engine"):
            base, sent = with_weights_below(engine, base, weights, application.directory / "base", application.on_line)
    application.build(base, weights, spec.tag)
    image = engine.image(spec.tag)
    outcomes: dict[str, Outcome] = dict.fromkeys(sent, "sent")
    return Built(image.id, image.size, tuple(clock.phases), reports(weights, outcomes, "there already"))


def _weights_listed(spec: ImageSpec, destination: Destination) -> Bytes | None:
    """What is in an image of weights alone, which has no place for it in itself: for a registry, beside it."""
    if not destination.push:
        return None
    from images import sbom  # loading it takes its time

    return sbom.of_weights(spec.model, spec.model_dir)
