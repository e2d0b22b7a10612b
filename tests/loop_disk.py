"""A small disk of its own, in a file: what only a real file system shows, such as one that runs full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def leave(disk: Path, kilobytes: int) -> None:
    """Fill a disk until no more than that is left."""
    with (disk / "filling").open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        file.truncate(max(file.tell() - kilobytes * 1024, 0))
        os.fsync(file.fileno())
