"""The files of a model where they lie, and what is said of one that is missing or damaged. Reads no bytes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from images.blobs import Stamp
from images.errors import ImageError
from runtime.models import ModelFile, ModelSpec


@dataclass(frozen=True)
class PlacedFile:
    """A file of a model: what it has to be, size included, and where it lies."""

    file: ModelFile
    path: Path
    stamp: Stamp


def place(model: ModelSpec, model_dir: Path) -> tuple[PlacedFile, ...]:
    """Where the model's files lie, sorted by path.

    Args:
        model: With the sha256 of every file.
        model_dir: Where they lie.

    Raises:
        ImageError: A file is missing, or has another size than the model's list says.
    """
    return tuple(_placed(model, model_dir, file) for file in sorted(model.files, key=lambda file: file.path))


def damaged(model: ModelSpec, model_dir: Path, path: Path) -> ImageError:
    """For a file that is not the one of the model's list."""
    return ImageError(f"a file of the model {model.id} is damaged: {path}", _hint(model, model_dir))


def _placed(model: ModelSpec, model_dir: Path, file: ModelFile) -> PlacedFile:
    path = model_dir / file.path
    if not path.is_file():
        raise ImageError(f"a file of the model {model.id} is missing: {path}", _hint(model, model_dir))
    stamp = Stamp.of(path.stat())
    if file.size not in (None, stamp.size):
        raise damaged(model, model_dir, path)
    return PlacedFile(replace(file, size=stamp.size), path, stamp)


def _hint(model: ModelSpec, model_dir: Path) -> str:
    return f"remove {model_dir}, then fetch it again: i2v-setup install --model {model.id}"
