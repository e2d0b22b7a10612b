"""A small disk of its own, in a file: what only a real file system shows, such as one that runs full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError, run

import pytest


@contextmanager
def loop_disk(image: Path, mount: Path, megabytes: int) -> Iterator[Path]:
    """Mount a new ext4 file system; where that is not allowed (only root may, and not everywhere) skip the test."""
    mount.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(megabytes * 2**20)
    try:
        run(["mkfs.ext4", "-q", str(image)], check=True)
        run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    except (OSError, CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        yield mount
    finally:
        run(["umount", str(mount)], check=True)
