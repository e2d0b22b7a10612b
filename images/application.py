"""All of an image but its weights: the Dockerfile's build, on a base image of one's choice, in one engine.

The build is handed all that it installs, so it needs no index, and nothing that may be secret is given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from images import buildx
from images.clock import Clock
from images.engine import Buildx, Engine, builder
from images.inputs import Recipe, place_list, place_wheels
from images.layers import weight_labels
from images.oci import Bytes, Layer, digest_of
from images.progress import Progress
from images.spec import (
    BASE_DIGEST_LABEL,
    BASE_LABEL,
    LOCK_DIGEST_LABEL,
    LOCK_LABEL,
    SBOM_DIGEST_LABEL,
    SBOM_PATH,
    VERSION_LABEL,
    WEIGHTS_LABEL,
    ImageSpec,
    Phase,
)
from images.weights_base import present
from runtime import __version__


@dataclass(frozen=True)
class Application:
    """What is built, with what, and where.

    Attributes:
        spec: The image.
        recipe: Its Dockerfile.
        engine: Where it is built.
        tools: The docker command that asks for it.
        directory: Where the inputs are put together.
        on_line: Called with each line of progress.
        timeout: Seconds after which a build is given up.
        clock: Told of the phases.
    """

    spec: ImageSpec
    recipe: Recipe
    engine: Engine
    tools: Buildx
    directory: Path
    on_line: Callable[[str], None]
    timeout: float | None
    clock: Clock

    def build(self, base: str, weights: Sequence[Layer], tag: str) -> Bytes:
        """Build it on the image `base`, into the engine, under `tag`; the list of what is in it, which it has too.

        Its labels say that it has these weights.

        Raises:
            ImageError: The build failed; the message says why, the hint what to do.
        """
        with self.clock.phase("inputs"):
            place_wheels(self.spec.wheels, self.directory / "wheels")
            below = present(self.engine, self.spec.base_image, self.on_line)
            listed = self._place_list(below.digest)
        options = [
            f"--builder={builder()}",
            f"--file={self.recipe.dockerfile}",
            f"--progress={self.tools.progress}",
            f"--tag={tag}",
            self._export(),
            "--provenance=false",
            f"--build-arg=BASE_IMAGE={base}",
            f"--build-arg=TORCH_BUILD={self.spec.torch_build}",
            f"--build-arg=MODEL_ID={self.spec.model.id}",
            "--build-arg=WEIGHTS=none",
            "--build-arg=PACKAGES=wheels",
            "--network=none",
            f"--build-context=wheels={self.directory / 'wheels'}",
            f"--build-context=sbom={self.directory / 'sbom'}",
            *(f"--label={name}={value}" for name, value in self._labels(weights, below.digest, listed).items()),
        ]
        started, progress = self.clock.now, Progress(self.on_line)
        buildx.run([self.tools.docker, "buildx", "build", *options, str(self.recipe.context)], progress, self.timeout)
        spent = self.clock.now - started
        self.clock.add(progress.phases() or (Phase("build", 0.0, spent, spent),), started)
        return listed

    def _export(self) -> str:
        """How the engine keeps what it built.

        containerd's store keeps layers packed: with gzip, unless it is told otherwise, which takes longer than all else
        (1.4 GB of packages on two processors: 73 s, with zstd 46 s).
        """
        if self.engine.info().store == "containerd":
            return "--output=type=image,unpack=true,compression=zstd,oci-mediatypes=true"
        return "--load"

    def _place_list(self, base_digest: str) -> Bytes:
        """The list of what is in the image, put where the build finds it."""
        from images import sbom  # loading it takes its time

        listed = sbom.of_image(self.spec, self.recipe.lock(self.spec.torch_build), base_digest)
        place_list(listed.content, self.directory / "sbom", PurePosixPath(SBOM_PATH).name)
        return listed

    def _labels(self, weights: Sequence[Layer], base_digest: str, listed: Bytes) -> dict[str, str]:
        """What only we know of the image; the Dockerfile adds what it knows itself."""
        spec, lock = self.spec, self.recipe.lock(self.spec.torch_build)
        return {
            VERSION_LABEL: __version__,
            BASE_LABEL: spec.base_image,
            BASE_DIGEST_LABEL: base_digest,
            **weight_labels(spec.model, weights),
            WEIGHTS_LABEL: spec.weights,
            LOCK_LABEL: spec.torch_build,
            LOCK_DIGEST_LABEL: digest_of(lock.read_bytes()),
            SBOM_DIGEST_LABEL: listed.descriptor.digest,
        }
