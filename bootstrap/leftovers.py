"""What nothing uses any more, and how it is removed. Whoever calls this sees to it that no installation is under way.

files of the store      no model's directory links to them
partial downloads       of files that never became whole
environments            that were not built to the end, or were built anew since, and in which nothing runs
model directories       that were not put together to the end
temporary files         of processes that were killed
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout

from bootstrap import current, generations, room, usage
from bootstrap.backends import uv_cache
from bootstrap.backends.conda import build as conda
from bootstrap.state import Home
from mirrors.store import Store

What = Literal[
    "stored file",
    "partial download",
    "unfinished environment",
    "replaced environment",
    "unfinished model",
    "temporary file",
]
RECENT = 600.0  # seconds; longer than any of our readers pauses


@dataclass(frozen=True)
class Leftover:
    """Something that nothing uses.

    Attributes:
        what: for people.
        path: where it is, or the directory that it is in.
        size: bytes of disk that removing it gives back.
        used: when it was last used, in seconds since the epoch.
        sha256: the file in the store, if it is one.
    """

    what: What
    path: Path
    size: int
    used: float
    sha256: str | None = None


def in_store(home: Home, unused_for: float) -> Iterator[Leftover]:
    """Files of the store that were not used for so many seconds, and all partial downloads."""
    store, latest = Store(home.store), time.time() - unused_for
    for stored in store.objects():
        path = store.path(stored.sha256) if stored.whole else home.store / "partial" / stored.sha256
        if stored.whole and (path.stat().st_nlink > 1 or stored.used > latest):
            continue  # linked from a model's directory: to remove it here would give nothing back
        what: What = "stored file" if stored.whole else "partial download"
        yield Leftover(what, path, stored.size, stored.used, stored.sha256)


def interrupted(home: Home) -> Iterator[Leftover]:
    """What killed runs left: environments, model directories, temporary files."""
    yield from _environments(home)
    yield from _models(home)
    yield from _temporary(home)
    yield from _of_uv(home)


def sweep(home: Home) -> None:
    """Remove what killed runs left, as an installation does at its beginning; partial downloads are gone on with."""
    current.sweep(home)
    for leftover in interrupted(home):
        if leftover.what != "unfinished model":
            discard(home, leftover)
    lock = FileLock(home.cache / ".models.lock")
    with suppress(Timeout, FileNotFoundError), lock.acquire(timeout=0):  # else somebody is at it
        for leftover in _models(home):
            discard(home, leftover)
    Store(home.store).sweep()
    conda.sweep(home)


def sweep_uv(home: Home) -> None:
    """Remove what uv was unpacking for an installation that failed. What cannot be removed is for the next sweep."""
    with suppress(OSError):
        for leftover in _of_uv(home):
            discard(home, leftover)


def discard(home: Home, leftover: Leftover) -> bool:
    """Remove something; False: it was left alone, as it is in use by now.

    Raises:
        MirrorError, OSError: it cannot be removed.
    """
    store = Store(home.store)
    if leftover.sha256 is not None:
        return _last_used(leftover) <= leftover.used and store.remove(leftover.sha256)
    if store.root in leftover.path.parents:
        return store.discard(leftover.path)
    if leftover.what == "temporary file" and not leftover.path.is_dir():
        leftover.path.unlink(missing_ok=True)
        return True
    if leftover.what == "replaced environment":
        (leftover.path / generations.RECORD).unlink(missing_ok=True)  # from here on it counts as unfinished
    _remove_tree(leftover.path)
    return True


def _environments(home: Home) -> Iterator[Leftover]:
    in_use, whole = home.current.resolve(), {one.path: one for one in generations.every(home)}
    newest = {one.stem: one.path for one in whole.values()}
    for path in generations.directories(home):
        one = whole.get(path)
        if path == in_use or (one is not None and newest[one.stem] == path) or usage.processes(path):
            continue
        what: What = "unfinished environment" if one is None else "replaced environment"
        yield Leftover(what, path, room.given_back(path), path.stat().st_mtime)


def _models(home: Home) -> Iterator[Leftover]:
    for path in sorted(home.models.glob(".*")):  # see bootstrap.weights
        if path.is_dir() and not path.is_symlink():
            yield Leftover("unfinished model", path, room.given_back(path), path.stat().st_mtime)


def _temporary(home: Home) -> Iterator[Leftover]:
    """What is written and renamed within moments: its process is gone, or it has been there for long."""
    patterns = (
        (home.cache, "*.tmp"),
        (home.cache, ".choices.json.*"),
        (home.deployments, "*.tmp"),
        (home.config, ".*.tmp"),
        (home.config / "locks", ".*.tmp"),
    )
    files = [path for directory, pattern in patterns for path in sorted(directory.glob(pattern))]
    for path in (*Store(home.store).debris(), *files):
        with suppress(FileNotFoundError):  # done meanwhile
            used = _touched(path)
            if used < time.time() - RECENT or _is_orphan(path):
                size = room.given_back(path) if path.is_dir() else path.lstat().st_blocks * 512
                yield Leftover("temporary file", path, size, used)


def _of_uv(home: Home) -> Iterator[Leftover]:
    """What uv was unpacking into the cache that it has for us alone; no installation is under way, so none goes on."""
    for path in sorted(uv_cache.ours(home).glob(".tmp*")):
        with suppress(FileNotFoundError):
            size = room.given_back(path) if path.is_dir() else path.lstat().st_blocks * 512
            yield Leftover("temporary file", path, size, path.lstat().st_mtime)


def _is_orphan(path: Path) -> bool:
    """Whether the process that the name tells of has ended."""
    pid = re.search(r"\.(\d+)\.tmp\Z", path.name)
    return pid is not None and not psutil.pid_exists(int(pid[1]))


def _last_used(leftover: Leftover) -> float:
    try:
        facts = leftover.path.stat()
    except FileNotFoundError:
        return leftover.used
    return facts.st_atime if leftover.what == "stored file" else facts.st_mtime


def _touched(path: Path) -> float:
    """When a file, or anything in a directory, was last written."""
    below = list(path.iterdir()) if path.is_dir() else []
    return max(found.lstat().st_mtime for found in [path, *below])


def _remove_tree(directory: Path) -> None:
    """Remove it, also where a process that was killed with its parent writes its last files there."""
    for _ in range(20):
        with suppress(OSError):
            shutil.rmtree(directory)
            return
        time.sleep(0.1)
    shutil.rmtree(directory)
