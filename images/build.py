"""Plans an image and makes it: the weights as layers of our own, and all else by `docker buildx build`.

    into the local engine       the weights go below the base image, once; the build goes on from there
    to a registry or a layout   the build goes on from the base image; the layers are put together here
    weights on top              the same, whatever the image goes to

The build is handed all that it installs, so it needs no index, and nothing that may be secret is given to it. It never
sees the weights: they cannot be sent twice, and no change of code or packages touches them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from images import buildx, layout, references
from images.deliver import deliver
from images.engine import Engine, builder, check_age, connect, find_buildx
from images.inputs import Recipe, place_wheels, shipped_recipe
from images.layers import weight_labels, weight_layers, weights_image
from images.oci import Image, Layer, compose
from images.progress import Progress
from images.push import push
from images.rates import Rate
from images.spec import WEIGHTS_LABEL, Built, Destination, ImageSpec, LayerReport, Phase, PlannedStep
from images.weights_base import with_weights_below
from mirrors.http import HttpSettings
from runtime import __version__

_KNOWN_LAYERS = "weight-layers.json"


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
    if spec.weights != "volume":
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


def require_engine() -> None:
    """See that images can be built here, before much is fetched for one.

    Raises:
        ImageError: There is no engine, or it is too old, or buildx is missing.
    """
    with connect() as engine:
        check_age(engine.info())
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
            where the digests of weights are kept once they were read.
        http: How a registry is spoken to.
        timeout: Seconds after which to give up the build.

    Raises:
        ImageError: The image cannot be built or delivered; the message says why, the hint what to do.
    """
    destination = destination or Destination()
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="i2v-image-", dir=scratch) as directory:
        work = _Work(spec, destination, recipe or shipped_recipe(), Path(directory), on_line, timeout, clock)
        if spec.weights != "volume":
            require_engine()
        weights: tuple[Layer, ...] = ()
        if spec.weights != "mounted":
            with clock.phase("weights"):
                known = (scratch or work.directory) / _KNOWN_LAYERS
                weights = weight_layers(spec.model, spec.model_dir, known, Rate("weights read", on_line))
        if spec.weights == "volume":
            return work.hand_over(weights_image(spec.model, weights), http)
        with connect() as engine:
            if destination.local and not (spec.on_top and weights):
                return work.build_on_weights(engine, weights)
            return work.hand_over(work.build_and_compose(engine, weights), http)


@dataclass
class _Clock:
    """The phases of a build, in seconds from its start."""

    began: float = field(default_factory=time.monotonic)
    phases: list[Phase] = field(default_factory=list)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.now
        yield
        self.phases.append(Phase(name, started, self.now - started, self.now - started))


@dataclass
class _Work:
    """One build under way."""

    spec: ImageSpec
    destination: Destination
    recipe: Recipe
    directory: Path
    on_line: Callable[[str], None]
    timeout: float | None
    clock: _Clock

    def build_on_weights(self, engine: Engine, weights: Sequence[Layer]) -> Built:
        """Into the engine, from a base image that has the weights already."""
        base, sent = self.spec.base_image, frozenset[str]()
        if weights:
            with self.clock.phase("weights into the engine"):
                base, sent = with_weights_below(engine, base, weights, self.directory / "base", self.on_line)
        self._buildx(engine, base, weights, self.spec.tag)
        image = engine.image(self.spec.tag)
        rows = (_report(layer, reused=layer.descriptor.digest not in sent) for layer in weights)
        return Built(image.id, image.size, tuple(self.clock.phases), tuple(rows))

    def build_and_compose(self, engine: Engine, weights: Sequence[Layer]) -> Image:
        """The whole image with its weights, as blobs: what the engine built is read from it."""
        passing = f"i2v-building:{self.directory.name.removeprefix('i2v-image-').lower()}"
        self._buildx(engine, self.spec.base_image, weights, passing)
        try:
            with self.clock.phase("read from the engine"):
                slim = layout.read_stream(engine.save(passing), self.directory / "slim", name="what the engine built")
        finally:
            engine.untag(passing)
        order = (*slim.layers, *weights) if self.spec.on_top else (*weights, *slim.layers)
        return compose(json.loads(slim.config.content), order)

    def hand_over(self, image: Image, http: HttpSettings | None) -> Built:
        """To wherever it is to go."""
        reused = frozenset[str]()
        if self.destination.local:
            with self.clock.phase("into the engine"), connect() as engine:
                sent = deliver(engine, image, self.spec.tag, Rate("given to the engine", self.on_line)).sent
                reused = _digests(image) - sent.keys()
        if self.destination.output:
            with self.clock.phase("write"):
                layout.write(image, self.destination.output, self.spec.tag, Rate("written", self.on_line))
        if self.destination.push:
            with self.clock.phase("push"):
                rate, reference = Rate("sent", self.on_line), references.parse(self.destination.push)
                pushed = push(image, reference, rate, on_plan=rate.expect, http=http)
                reused = frozenset(blob.digest for blob in pushed.blobs if blob.outcome != "sent")
        rows = tuple(_report(layer, reused=layer.descriptor.digest in reused) for layer in image.layers)
        size = sum(row.size for row in rows)
        return Built(image.manifest.descriptor.digest, size, tuple(self.clock.phases), rows)

    def _buildx(self, engine: Engine, base: str, weights: Sequence[Layer], tag: str) -> None:
        """The recipe on that base, in the engine under that tag."""
        found = find_buildx()
        with self.clock.phase("inputs"):
            place_wheels(self.spec.wheels, self.directory / "wheels")
        options = [
            f"--builder={builder()}",
            f"--file={self.recipe.dockerfile}",
            f"--progress={found.progress}",
            f"--tag={tag}",
            "--load",
            "--provenance=false",
            f"--build-arg=BASE_IMAGE={base}",
            f"--build-arg=TORCH_BUILD={self.spec.torch_build}",
            f"--build-arg=MODEL_ID={self.spec.model.id}",
            "--build-arg=WEIGHTS=none",
            "--build-arg=PACKAGES=wheels",
            "--network=none",
            f"--build-context=wheels={self.directory / 'wheels'}",
            *(f"--label={name}={value}" for name, value in self._labels(engine, weights).items()),
        ]
        started, progress = self.clock.now, Progress(self.on_line)
        buildx.run([found.docker, "buildx", "build", *options, str(self.recipe.context)], progress, self.timeout)
        spent = self.clock.now - started
        followed = progress.phases() or (Phase("build", 0.0, spent, spent),)
        self.clock.phases += (replace(phase, started=started + phase.started) for phase in followed)

    def _labels(self, engine: Engine, weights: Sequence[Layer]) -> dict[str, str]:
        """What only we know of the image; the Dockerfile adds what it knows itself."""
        spec, lock = self.spec, self.recipe.lock(self.spec.torch_build)
        base = engine.find(spec.base_image)
        return {
            "org.opencontainers.image.version": __version__,
            "org.opencontainers.image.base.name": spec.base_image,
            **({"org.opencontainers.image.base.digest": base.id} if base else {}),
            **weight_labels(spec.model, weights),
            WEIGHTS_LABEL: spec.weights,
            "i2v-setup.lock": spec.torch_build,
            "i2v-setup.lock.digest": f"sha256:{hashlib.sha256(lock.read_bytes()).hexdigest()}",
        }


def _digests(image: Image) -> frozenset[str]:
    return frozenset(layer.descriptor.digest for layer in image.layers)


def _report(layer: Layer, *, reused: bool) -> LayerReport:
    return LayerReport(layer.descriptor.digest, layer.descriptor.size, layer.made_by, reused)
