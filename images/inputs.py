"""What a build is given: the recipe, the model's files, local wheels, and the installers' settings.

Of the model only the files of its manifest go in, and only if their bytes are the ones named there. Knows no Docker.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from images.errors import ImageError
from images.spec import Packages
from mirrors.digest import sha256_of
from mirrors.urls import is_loopback
from runtime.models import ModelSpec


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


def place_wheels(wheels: tuple[Path, ...], target: Path) -> None:
    """Put the wheels into the new directory `target`."""
    target.mkdir()
    for wheel in wheels:
        _place(wheel, target / wheel.name)


def place_model(model: ModelSpec, model_dir: Path, target: Path) -> None:
    """Put the model's files, and nothing else, into the new directory `target`.

    Raises:
        ImageError: A file is missing, or is not the one that the manifest names.
    """
    target.mkdir()
    for file in model.files:
        source = model_dir / file.path
        hint = f"remove {model_dir}, then fetch it again: i2v-setup install --model {model.id}"
        if not source.is_file():
            raise ImageError(f"a file of the model {model.id} is missing: {source}", hint)
        if source.stat().st_size != file.size or sha256_of(source) != file.sha256:
            raise ImageError(f"a file of the model {model.id} is damaged: {source}", hint)
        _place(source, target / file.path)


def installer_settings(packages: Packages) -> str:
    """The installers' environment, as lines for a POSIX shell. May hold credentials: for a build secret only."""
    settings = {"PIP_INDEX_URL": packages.index_url, "UV_DEFAULT_INDEX": packages.index_url}
    if packages.extra_index_urls:
        # Any index may serve any package: the lock's hashes decide, so that there is no order to get wrong.
        settings |= {"UV_INDEX": " ".join(packages.extra_index_urls), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if packages.find_links:
        settings |= {"UV_FIND_LINKS": ",".join(packages.find_links)}
    for scheme, value in packages.proxies.items():
        # curl and requests read the small form, uv the capital one as well.
        settings |= {f"{scheme}_proxy".lower(): value, f"{scheme}_proxy".upper(): value}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())


def needs_host_network(packages: Packages) -> bool:
    """Whether an index or proxy listens on this machine's loopback, which a build sees only on the host's network."""
    proxies = [value for scheme, value in packages.proxies.items() if scheme != "no"]
    urls = (packages.index_url, *packages.extra_index_urls, *packages.find_links, *proxies)
    return any(is_loopback(url if "://" in url else f"//{url}") for url in urls)


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
        raise ImageError(f"cannot hand {source.name} to the build: {error.strerror}", hint) from error
