"""What we ask of a disk, and what it refuses, as errors that a person can mend."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirrors.errors import MirrorError, NoSpace


def free_space(path: Path) -> int:
    """The bytes that the disk of an existing path still has for us."""
    with trouble(path):
        return shutil.disk_usage(path).free


@contextmanager
def trouble(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a NoSpace or a MirrorError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"the disk that holds {path} is full", "make room, and run the same command again") from error
        reason = error.strerror or error
        raise MirrorError(f"{error.filename or path}: {reason}", "choose a directory that you can write to") from error


def made(directory: Path) -> Path:
    """The directory, which exists now."""
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def sync_directory(directory: Path) -> None:
    """Make what was renamed in a directory last over a power cut."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_file_system(path: Path) -> None:
    """Wait until all that was written to the file system of an existing path would last over a power cut.

    Where it can be had, this is Linux's `syncfs`, which leaves other disks alone: a slow stick, a server that is gone.

    Raises:
        OSError: the disk did not take it.
    """
    if sys.platform != "linux":
        os.sync()
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(opened) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(opened)
