"""What an image is made of, and what building one gives: data only.

Knows no Docker, and does not look at the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.models import ModelSpec


@dataclass(frozen=True)
class Packages:
    """Where the build gets Python packages. URLs may hold credentials, so they stay out of `repr`.

    Attributes:
        index_url: The simple index that has everything, or nearly.
        extra_index_urls: Indexes asked as well. The hashes of the lock decide what is accepted, whoever serves it.
        find_links: Pages of links to wheels, asked as well; only what a build can reach by the network.
        wheels: Wheels of this machine that the lock names, and that perhaps no index has. They are handed to the build.
        ca_bundle: A PEM file of certificate authorities to trust while packages are fetched.
        proxies: By scheme, as `urllib.request.getproxies()` gives them ("no" lists the exceptions).
    """

    index_url: str = field(repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    wheels: tuple[Path, ...] = ()
    ca_bundle: Path | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ImageSpec:
    """One image: its name, and what goes into it.

    Attributes:
        tag: Its name in the engine.
        base_image: Any image with python3 and venv, as the engine finds or pulls it.
        torch_build: Names the lock: `runtime/locks/<torch_build>.txt`.
        model: The model that the image serves.
        model_dir: Holds the files of `model.files`.
        packages: Where Python packages come from.
    """

    tag: str
    base_image: str
    torch_build: str
    model: ModelSpec
    model_dir: Path
    packages: Packages


@dataclass(frozen=True)
class PlannedStep:
    """A line of the plan, for people."""

    title: str
    detail: str


@dataclass(frozen=True)
class Phase:
    """A part of a build: when it began, and how long it worked, in seconds from the build's start."""

    name: str
    started: float
    seconds: float


@dataclass(frozen=True)
class Built:
    """An image that the engine has. `size` is in bytes, base included."""

    image_id: str
    size: int
    phases: tuple[Phase, ...]
