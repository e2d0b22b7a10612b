"""What an image is made of, and what building one gives: data only.

Knows no Docker, and does not look at the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.models import ModelSpec


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
    """

    tag: str
    base_image: str
    torch_build: str
    model: ModelSpec
    model_dir: Path
    wheels: Mapping[str, Path]


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
class Built:
    """An image that the engine has. `size` is in bytes, base included."""

    image_id: str
    size: int
    phases: tuple[Phase, ...]
