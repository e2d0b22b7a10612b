"""The files that deploy the image which build-image makes: what goes into them, by what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bootstrap import weights
from bootstrap.errors import UsageProblem
from bootstrap.state import Home
from images import deploy_files, references
from images.deployable import Deployable
from images.spec import Destination, ImageSpec, PlannedStep, Weights


@dataclass(frozen=True)
class DeployFiles:
    """Where the files go, and the image of the weights alone that they mount, if they do."""

    directory: Path
    weights_image: str | None = None

    @property
    def step(self) -> PlannedStep:
        """What the plan says of them."""
        return PlannedStep("deploy files", f"{self.directory}: {', '.join(deploy_files.NAMES)}")

    def write(self, spec: ImageSpec, destination: Destination, home: Home, digest: str = "") -> tuple[Path, ...]:
        """Write them, with the digest that the registry has the image by; where they are.

        Raises:
            ImageError: one was changed meanwhile, or the directory cannot be written.
        """
        model_dir = weights.directory(home, spec.model) if spec.weights == "mounted" else None
        deployable = Deployable(
            image=f"{destination.push}@{digest}" if destination.push and digest else destination.push or spec.tag,
            model=spec.model,
            gpu=spec.torch_build.startswith("cu"),
            model_dir=None if self.weights_image else model_dir,
            weights_image=self.weights_image,
        )
        return deploy_files.write(self.directory, deployable)


def wanted(directory: Path | None, weights_image: str | None, kind: Weights) -> DeployFiles | None:
    """The files that were asked for, if they were.

    Raises:
        UsageProblem: they make no sense. ImageError: they would overwrite what is not ours.
    """
    if weights_image is not None:
        if directory is None or kind != "mounted":
            raise UsageProblem("--weights-image goes with --weights mounted and --deploy-files", "add them")
        references.parse(weights_image)
    if directory is None:
        return None
    if kind == "volume":
        raise UsageProblem(
            "an image of the weights alone serves nothing, so there are no files that deploy it",
            "have them written for the server's image: --weights mounted --weights-image REF --deploy-files DIR",
        )
    deploy_files.check(directory)
    return DeployFiles(directory, weights_image)
