"""Room on disks: what directories take, what removing them gives back, and whether something fits.

What goes where is for the caller to say; here it is only added up for each file system.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import SetupError


@dataclass(frozen=True)
class Need:
    """So many bytes will be written where that path is, or will be; `what` they are, for people."""

    path: Path
    bytes: int
    what: str


def require(needs: Iterable[Need], purpose: str) -> None:
    """Check that all of it fits: what lands on the same file system is added up.

    Raises:
        SetupError: it does not; says what is needed where, and how much is free.
    """
    disks: dict[int, list[Need]] = defaultdict(list)
    for need in needs:
        if need.bytes > 0:
            disks[existing(need.path).stat().st_dev].append(need)
    for disk in disks.values():
        place, total = existing(disk[0].path), sum(need.bytes for need in disk)
        free = shutil.disk_usage(place).free
        if free < total:
            parts = ", ".join(f"{_text(need.bytes)} of {need.what}" for need in disk)
            raise SetupError(
                f"{purpose} needs {_text(total)} on the disk of {place}, which has {_text(free)} free ({parts})",
                "free some space, or set I2V_SETUP_HOME to a directory on a larger disk",
            )


@contextmanager
def running_full(purpose: str) -> Iterator[None]:
    """Say what a disk that runs full in the middle means.

    Raises:
        SetupError: it did.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"the disk that holds {error.filename}" if error.filename else "a disk"
        raise SetupError(
            f"{where} is full: {purpose} was not finished", "make room, and run the command again"
        ) from error


def existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def same_disk(one: Path, other: Path) -> bool:
    """Whether files can be hard links of each other there."""
    return existing(one).stat().st_dev == existing(other).stat().st_dev


def length(directory: Path) -> int:
    """The bytes of all files below a directory, whoever they are shared with."""
    return sum(facts.st_size for facts in _files(directory))


def given_back(directory: Path) -> int:
    """The bytes of disk that go with a directory: a file that has another link stays."""
    return sum(facts.st_blocks * 512 for facts in _files(directory) if facts.st_nlink == 1)


def _files(directory: Path) -> Iterator[os.stat_result]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False)


def _text(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
