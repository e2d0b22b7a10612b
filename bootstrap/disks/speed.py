"""How fast a disk reads: some tens of megabytes of a file that is there, past the page cache. Writes nothing.

What the number is worth: it is one sequential read of 0.3 s, enough to tell a hard disk (100 to 250 MB/s) or a network
volume from an SSD (500) or NVMe (2000 and more). Between two numbers of the same order it says nothing: other programs,
and the caches of the disk, the hypervisor or the server, may be in it.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

SECONDS, LIMIT = 0.3, 64 * 2**20  # whichever is reached first
_LOOK = 0.15  # seconds that the search for a file may take
_ENOUGH, _LEAST = 32 * 2**20, 8 * 2**20  # bytes of a file: one that will do at once, and one that will do
_CHUNK = 2**20


def measure(mount: Path) -> float | None:
    """Bytes per second read from the file system at `mount`; None where no file or no way past the cache is found.

    Raises:
        OSError: it cannot be read.
    """
    file = sample(mount)
    return read(file) if file is not None else None


def sample(mount: Path, seconds: float = _LOOK) -> Path | None:
    """A file of some size on that very file system, the first that is large enough, looked for near its top first."""
    deadline = time.monotonic() + seconds
    best: tuple[int, Path | None] = (_LEAST - 1, None)
    for size, path in _files(mount, deadline):
        if size > best[0]:
            best = (size, path)
        if size >= _ENOUGH:
            break
    return best[1]


def _files(mount: Path, deadline: float) -> Iterator[tuple[int, Path]]:
    """The readable files and their bytes on disk (a hole is read fast), breadth first, until the deadline."""
    device = mount.stat().st_dev
    directories = deque([str(mount)])
    while directories and time.monotonic() < deadline:
        with suppress(OSError), os.scandir(directories.popleft()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.stat(follow_symlinks=False).st_dev == device:
                        directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    facts = entry.stat(follow_symlinks=False)
                    size = min(facts.st_size, facts.st_blocks * 512)
                    if size >= _LEAST and facts.st_dev == device and os.access(entry.path, os.R_OK):
                        yield size, Path(entry.path)


def read(path: Path) -> float | None:
    """Bytes per second of reading that file for a moment, not from the page cache; None where that cannot be had.

    Raises:
        OSError: it cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECT)
    except (OSError, AttributeError):
        return None  # this file system knows no such reads, and a cached one would tell of memory
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        with closing(mmap.mmap(-1, _CHUNK)) as buffer:  # such reads want memory that is aligned to pages
            os.preadv(file, [buffer], 0)  # wakes the disk
            return _timed(file, buffer)
    finally:
        os.close(file)


def _timed(file: int, buffer: mmap.mmap) -> float | None:
    count, began = 0, time.monotonic()
    while count < LIMIT and time.monotonic() - began < SECONDS:
        got = os.preadv(file, [buffer], _CHUNK + count)
        count += got
        if got < _CHUNK:
            break
    return count / max(time.monotonic() - began, 1e-6) if count else None
