"""The models that can be installed and run, one row each, and the files that each is made of.

A row names the family whose call `runtime.pipeline` knows; a manifest beside it lists every file with its
size and sha256. Knows nothing of torch, of mirrors, or of where on this machine the files lie.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from runtime.problems import RuntimeProblem

_HERE = Path(__file__).parent

Precision = Literal["fp16", "bf16", "fp32"]


class UnknownModel(RuntimeProblem):
    """No row has this id."""


class ModelMissing(RuntimeProblem):
    """A directory that should hold a model does not."""


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: its path below the model's directory, its size in bytes and its sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        id: What a user types.
        title: What a user reads.
        family: Which call `runtime.pipeline` uses; models of one family take the same arguments.
        pipeline: The diffusers class that loads the directory.
        repo: Where the files are published on the hub; None when they come with this package.
        revision: The commit of `repo` that the manifest describes.
        licence: The licence of the weights.
        gated: Whether the publisher asks for an account.
        precision: What the weights are stored in, and computed in where the device bears it.
        note: What a user must be told plainly.
        manifest: The manifest's path below this folder.
        takes_prompt: Whether the words of a prompt change the video.
        guidance_scale: The model's own guidance, where the preset's does not suit it.
    """

    id: str
    title: str
    family: str
    pipeline: str
    repo: str | None
    revision: str | None
    licence: str
    gated: bool
    precision: Precision
    note: str
    manifest: str | None
    takes_prompt: bool = True
    guidance_scale: float | None = None

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """Every file that the model needs, sorted by path."""
        return _read_manifest(self.manifest) if self.manifest else ()

    @property
    def weight_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """The sha256 of the sorted manifest: names this very set of bytes."""
        lines = (f"{file.sha256} {file.size} {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def bundled(self) -> Path | None:
        """The directory inside this package that holds the files, for a model that comes with it."""
        return (_HERE / self.manifest).parent if self.manifest and self.repo is None else None

    def check(self, directory: Path) -> None:
        """Looks whether `directory` holds every file in its right size; the bytes are not read.

        Raises:
            ModelMissing: It does not.
        """
        missing = [file.path for file in self.files if _size(directory / file.path) != file.size]
        if missing:
            raise ModelMissing(
                f"{directory} does not hold the model {self.id}: {len(missing)} of {len(self.files)} files are "
                f"missing or of the wrong size, the first is {missing[0]}",
                f"install the model {self.id} again",
            )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@cache
def _read_manifest(manifest: str) -> tuple[ModelFile, ...]:
    document = json.loads((_HERE / manifest).read_text(encoding="utf-8"))
    files = (ModelFile(row["path"], row["size"], row["sha256"]) for row in document["files"])
    return tuple(sorted(files, key=lambda file: file.path))


_ROWS = (
    ModelSpec(
        id="demo",
        title="Demo (random weights)",
        family="i2vgen-xl",
        pipeline="I2VGenXLPipeline",
        repo=None,
        revision=None,
        licence="Apache-2.0",
        gated=False,
        precision="fp16",
        note="A tiny I2VGen-XL with random weights: it shows that the whole path works, not what a real model "
        "makes. Expect moving colours, not your picture.",
        manifest="demo/manifest.json",
    ),
    ModelSpec(
        id="svd-xt",
        title="Stable Video Diffusion XT",
        family="svd",
        pipeline="StableVideoDiffusionPipeline",
        repo="stabilityai/stable-video-diffusion-img2vid-xt",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        licence="stable-video-diffusion-community",
        gated=False,  # no page that we read says that it is; a hub that asks for an account answers 401
        precision="fp16",
        note="Takes no prompt: the picture alone decides. Stability AI's community licence holds for the weights: "
        "read it before you earn money with the videos.",
        manifest="manifests/svd-xt.json",
        takes_prompt=False,
        guidance_scale=3.0,
    ),
)

MODELS: Mapping[str, ModelSpec] = {row.id: row for row in _ROWS}


def model(model_id: str) -> ModelSpec:
    """The row named `model_id`.

    Raises:
        UnknownModel: There is none; the hint names those that there are.
    """
    try:
        return MODELS[model_id]
    except KeyError:
        raise UnknownModel(f"unknown model {model_id!r}", f"known models: {', '.join(MODELS)}") from None
