"""What a build is given: the recipe, the wheels, and the model's files.

Of the model only the files of its manifest go in, and only if their bytes are the ones named there. Knows no Docker.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from images.errors import ImageError
from mirrors.digest import sha256_of
from runtime.models import INSTALLED, ModelSpec, as_installed


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile and the directory whose files it may copy (its `.dockerignore` says which)."""

    dockerfile: Path
    context: Path

    def lock(self, torch_build: str) -> Path:
        """The lock of a torch build.

        Raises:
            ImageError: There is none of that name.
        """
        locks = {path.stem: path for path in (self.context / "runtime" / "locks").glob("*.txt")}
        if torch_build not in locks:
            known = ", ".join(sorted(locks))
            raise ImageError(f"there is no lock for the torch build {torch_build!r}", f"choose one of: {known}")
        return locks[torch_build]


def shipped_recipe() -> Recipe:
    """The project's own recipe: in the root of a checkout, or inside the installed `images` package."""
    context = Path(__file__).resolve().parents[1]
    for directory in (context / "images", context):
        dockerfile = directory / "Dockerfile"
        # Without the ignore file a build would be sent all of site-packages.
        if dockerfile.is_file() and dockerfile.with_name("Dockerfile.dockerignore").is_file():
            return Recipe(dockerfile, context)
    raise ImageError("this installation of i2v-setup lacks its Dockerfile", "install it again")


def place_wheels(wheels: Mapping[str, Path], target: Path) -> None:
    """Put the wheels into the new directory `target`, each under its own name, wherever its bytes lie.

    Raises:
        ImageError: One is not there, or its name is no file name.
    """
    target.mkdir()
    for name, source in wheels.items():
        if Path(name).name != name:  # names come from an index
            raise ImageError(f"{name!r} is no name of a wheel", "choose another mirror")
        if not source.is_file():
            raise ImageError(f"the wheel {name} is missing: {source}", "build again: it is fetched again")
        _place(source, target / name)


def place_model(model: ModelSpec, model_dir: Path, target: Path) -> None:
    """Put the model's files, and a list of them, into the new directory `target`.

    Args:
        model: With the sha256 of every file.
        model_dir: Where they lie.
        target: Where they go.

    Raises:
        ImageError: A file is missing, or is not the one that the model's list names.
    """
    target.mkdir()
    placed = []
    for file in model.files:
        source = model_dir / file.path
        hint = f"remove {model_dir}, then fetch it again: i2v-setup install --model {model.id}"
        if not source.is_file():
            raise ImageError(f"a file of the model {model.id} is missing: {source}", hint)
        if source.stat().st_size != (file.size or source.stat().st_size) or sha256_of(source) != file.sha256:
            raise ImageError(f"a file of the model {model.id} is damaged: {source}", hint)
        _place(source, target / file.path)
        placed.append(replace(file, size=source.stat().st_size))
    (target / INSTALLED).write_text(as_installed(model.id, placed), encoding="utf-8")


def _place(source: Path, target: Path) -> None:
    """The same bytes at a second path: linked, or copied where the file system or its rights forbid that."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.resolve(), target)
        except OSError:
            shutil.copy2(source, target)
    except OSError as error:
        hint = "make room where temporary files lie, or set TMPDIR to another place"
        raise ImageError(f"cannot hand {target.name} to the build: {error.strerror}", hint) from error
