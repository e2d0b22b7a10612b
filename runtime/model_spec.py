"""What is said of one model: its row in `runtime.models`. Standard library only."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runtime import manifest
from runtime.manifest import ModelFile
from runtime.problems import RuntimeProblem

_HERE = Path(__file__).parent

#: What weights are stored in.
Precision = Literal["fp16", "bf16", "fp32"]
#: What a model is computed in; with "autocast" the weights are fp32, and most of the arithmetic is in the model's own.
Arithmetic = Literal["fp16", "bf16", "fp32", "autocast"]


class ModelMissing(RuntimeProblem):
    """A directory that should hold a model does not."""


class HashesUnknown(RuntimeProblem):
    """The sha256 of a file is not known yet, so there is no digest."""


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        id: What a user types.
        title: What a user reads.
        family: Its row in `runtime.families`: models of one family take the same arguments and make the same shapes.
        repo: Where the files are published on the hub; None when they come with this package.
        revision: The commit of `repo` that the manifest describes.
        licence: The licence of the weights; None: the repository names none.
        gated: Whether the publisher asks for an account; None: not known.
        precision: What the weights are stored in, and computed in where the device bears it.
        note: What a user must be told plainly.
        manifest: The manifest's path below this folder.
        takes_prompt: Whether the words of a prompt change the video.
        known: The files with all that was learnt of them; None: as the manifest has them.
    """

    id: str
    title: str
    family: str
    repo: str | None
    revision: str | None
    licence: str | None
    gated: bool | None
    precision: Precision
    note: str
    manifest: str | None
    takes_prompt: bool = True
    known: tuple[ModelFile, ...] | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """Every file that the model needs, sorted by path."""
        if self.known is not None:
            return self.known
        return manifest.read(_HERE / self.manifest, self.repo, self.revision) if self.manifest else ()

    @property
    def complete(self) -> bool:
        """Whether the sha256 of every file is known."""
        return all(file.sha256 is not None for file in self.files)

    @property
    def weight_bytes(self) -> int:
        """The size of all files together, as far as it is known (see `exact`)."""
        return sum(file.about for file in self.files)

    @property
    def exact(self) -> bool:
        """Whether `weight_bytes` is the very number, and not about right."""
        return all(file.size is not None and not file.optional for file in self.files)

    @property
    def digest(self) -> str:
        """The sha256 of the sorted names and hashes: names this very set of bytes.

        Raises:
            HashesUnknown: A hash is not known yet.
        """
        if not self.complete:
            raise HashesUnknown(
                f"not all files of the model {self.id} have a known sha256", f"i2v-setup install --model {self.id}"
            )
        return manifest.digest_of_files(self.files)

    @property
    def bundled(self) -> Path | None:
        """The directory inside this package that holds the files, for a model that comes with it."""
        return (_HERE / self.manifest).parent if self.manifest and self.repo is None else None

    def check(self, directory: Path) -> None:
        """Looks whether `directory` holds every file in its right size; the bytes are not read.

        Raises:
            ModelMissing: It does not.
        """
        missing = [file.path for file in self.files if not _is_there(directory / file.path, file)]
        if missing:
            raise ModelMissing(
                f"{directory} does not hold the model {self.id}: {len(missing)} of {len(self.files)} files are "
                f"missing or of the wrong size, the first is {missing[0]}",
                f"install the model {self.id} again",
            )


def _is_there(path: Path, file: ModelFile) -> bool:
    try:
        return file.optional or path.stat().st_size == (file.size or path.stat().st_size)
    except OSError:
        return False
