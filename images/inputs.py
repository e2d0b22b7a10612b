"""What a build is given: the recipe, the wheels and documents. Knows no Docker."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.blob_directory import disk_trouble
from images.errors import ImageError


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
        ImageError: One is not there, or its name is no file name, or the disk is full.
    """
    with disk_trouble(target):
        target.mkdir()
    for name, source in wheels.items():
        if Path(name).name != name:  # names come from an index
            raise ImageError(f"{name!r} is no name of a wheel", "choose another mirror")
        if not source.is_file():
            raise ImageError(f"the wheel {name} is missing: {source}", "build again: it is fetched again")
        _place(source, target / name)


def place_list(content: bytes, target: Path, name: str) -> None:
    """Put a document into the new directory `target`, for anybody to read.

    Its time comes from its bytes: BuildKit takes a file that has the same name, size and time as one of an earlier
    build for that one, and a time from the clock would have each build make another layer.

    Raises:
        ImageError: There is no room for it.
    """
    path = target / name
    with disk_trouble(target):
        target.mkdir()
        path.write_bytes(content)
        path.chmod(0o644)
        target.chmod(0o755)
        time = int.from_bytes(hashlib.sha256(content).digest()[:4], "big") >> 1  # 31 bits fit every file system
        os.utime(path, (time, time))


def _place(source: Path, target: Path) -> None:
    """The same bytes at a second path: linked, or copied where the file system or its rights forbid that."""
    with disk_trouble(target):
        try:
            os.link(source.resolve(), target)
        except OSError:
            shutil.copy2(source, target)
