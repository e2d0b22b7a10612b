"""What an image is made of, and what building one gives: data only.

Knows no Docker, and does not look at the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from images.oci import Image
from images.references import Reference
from runtime.models import ModelSpec

#: Where the model's files are: in layers of the image, on the machine that runs it, or in an image of their own.
Weights = Literal["baked", "mounted", "volume"]
#: How a blob came to be on the other side: a registry that has it in another repository mounts it.
Outcome = Literal["there already", "mounted", "sent"]
#: The label that says which.
WEIGHTS_LABEL = "i2v-setup.weights"
#: The labels that name the model, the set of its files, and the layers that they are in, lowest first.
MODEL_LABEL = "i2v-setup.model"
MODEL_DIGEST_LABEL = "i2v-setup.model.digest"
WEIGHT_LAYERS_LABEL = "i2v-setup.weights.layers"
#: The label that says which directories the Dockerfile fills, part by part.
PARTS_LABEL = "i2v-setup.parts"
#: The labels that name the lock in the image, and its bytes.
LOCK_LABEL = "i2v-setup.lock"
LOCK_DIGEST_LABEL = "i2v-setup.lock.digest"
#: The label that names the bytes of the list of what is in the image (images.sbom), and where that lies in it.
SBOM_DIGEST_LABEL = "i2v-setup.sbom.digest"
SBOM_PATH = "usr/share/i2v-setup/sbom.cdx.json"
#: The label that names the version of the runtime in the image.
VERSION_LABEL = "org.opencontainers.image.version"
#: The labels that name the base image, and what a registry knows it by.
BASE_LABEL = "org.opencontainers.image.base.name"
BASE_DIGEST_LABEL = "org.opencontainers.image.base.digest"


@dataclass(frozen=True)
class Slim:
    """An image without weights that is there already.

    Attributes:
        name: What the user calls it.
        image: Its blobs.
        reference: Where it is on a registry, if it is on one.
        torch_build: Names the lock in it; "" if it does not say.
    """

    name: str
    image: Image
    reference: Reference | None = None
    torch_build: str = ""


@dataclass(frozen=True)
class ImageSpec:
    """One image: its name, and what goes into it.

    Attributes:
        tag: Its name in the engine.
        base_image: Any image with python3 and venv, as the engine finds or pulls it.
        torch_build: Names the lock: `runtime/locks/<torch_build>.txt`.
        model: The model that the image serves. To build, the sha256 of its files must be known; to plan, not.
        model_dir: Holds, or will hold, the files of `model.files`.
        wheels: Where the bytes of every wheel lie that the lock and `images/uv.txt` need in the image, by the wheel's
            own file name: it says what the wheel fits, and the file with its bytes may be named otherwise.
        weights: Where the model's files go. A "volume" is an image of them alone; "mounted" ones need not be here.
        on_top: Baked weights lie above the packages and the application. Then hosts with several models share those,
            and a change of them has every host fetch the weights again; below, it is the other way round.
    """

    tag: str
    base_image: str
    torch_build: str
    model: ModelSpec
    model_dir: Path
    wheels: Mapping[str, Path]
    weights: Weights = "baked"
    on_top: bool = False
    slim: Slim | None = None

    @property
    def is_built(self) -> bool:
        """Whether anything has to be built, by an engine and from wheels."""
        return self.weights != "volume" and self.slim is None


@dataclass(frozen=True)
class Destination:
    """Where an image goes; with neither, into the local engine.

    Attributes:
        push: A reference on a registry.
        output: An OCI layout: a directory, or a tar archive if the name ends in `.tar`.
    """

    push: str | None = None
    output: Path | None = None

    @property
    def local(self) -> bool:
        """Whether the local engine keeps it."""
        return self.push is None and self.output is None


@dataclass(frozen=True)
class PlannedStep:
    """A line of the plan, for people."""

    title: str
    detail: str


@dataclass(frozen=True)
class Phase:
    """A part of a build: when it began, and how long it took, in seconds from the build's start.

    `busy` is for how long at least one of its steps was under way: parts take turns, and wait for each other.
    """

    name: str
    started: float
    seconds: float
    busy: float


@dataclass(frozen=True)
class LayerReport:
    """One layer: its digest, its size in bytes, what is in it, and what it took to have it on the other side."""

    digest: str
    size: int
    about: str
    outcome: Outcome

    @property
    def reused(self) -> bool:
        """Whether the other side had it already."""
        return self.outcome != "sent"


@dataclass(frozen=True)
class Built:
    """An image that is where it was to go.

    Attributes:
        image_id: Its digest there: the engine's id, or that of its manifest.
        size: Bytes of all its layers, base included.
        phases: How long what took.
        layers: From the bottom, as far as they are known one by one.
        warnings: What did not work out, though the image is there.
    """

    image_id: str
    size: int
    phases: tuple[Phase, ...]
    layers: tuple[LayerReport, ...] = ()
    warnings: tuple[str, ...] = ()
