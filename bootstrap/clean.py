"""The clean command: gives back the room of what nothing uses any more.

    files of the store      no model's directory links to them, and they were not used for so long
    partial downloads       of files that never became whole
    environments            that were not built to the end, or whose interpreter is gone
    model directories       that were not put together to the end
    temporary files         of processes that were killed

Environments that are whole stay, so that one can go back to them, and so do models. What a running process holds stays:
an installation under way is waited for by the person, a file that is being fetched is skipped, and so is one that was
used a moment ago, since who reads a file of the store holds no lock on it (unless the person names another time).
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from bootstrap.errors import SetupError, UsageProblem
from bootstrap.generations import Generation
from bootstrap.state import Home
from mirrors.store import Store

What = Literal["stored file", "partial download", "unfinished environment", "unfinished model", "temporary file"]
RECENT = 600.0  # seconds; longer than any of our readers pauses
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


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


def seconds(text: str) -> float:
    """A time such as 30d, 12h or 2w.

    Raises:
        UsageProblem: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip().lower())
    if found is None:
        raise UsageProblem(f"{text!r} is no length of time", "write it as 30d, 12h or 2w")
    return float(int(found[1]) * _UNITS[found[2]])


def find(home: Home, unused_for: float | None = None) -> list[Leftover]:
    """What nothing uses, and nothing used for so many seconds; None: RECENT for files of the store. Changes nothing.

    Raises:
        SetupError: an installation is under way.
    """
    with _alone(home):
        in_store = _in_store(home, RECENT if unused_for is None else unused_for)
        found = [*in_store, *_environments(home), *_models(home), *_temporary(home)]
    latest = time.time() - (unused_for or 0.0)
    return [leftover for leftover in found if leftover.used <= latest]


def remove(home: Home, leftovers: Sequence[Leftover], on_removed: Callable[[Leftover], None]) -> list[Leftover]:
    """Remove what was found; those that are gone. What is in use by now stays.

    Raises:
        SetupError: an installation is under way. MirrorError, OSError: a file cannot be removed.
    """
    store, gone = Store(home.store), []
    with _alone(home):
        unfinished = {leftover.path for leftover in (*_environments(home), *_models(home))}
        for leftover in leftovers:
            if leftover.what == "temporary file":
                if not _discard(store, leftover):
                    continue
            elif leftover.sha256 is None:
                if leftover.path not in unfinished:
                    continue  # finished meanwhile
                shutil.rmtree(leftover.path)
            elif _last_used(leftover) > leftover.used or not store.remove(leftover.sha256):
                continue
            gone.append(leftover)
            on_removed(leftover)
        store.sweep()
    return gone


def _in_store(home: Home, unused_for: float) -> Iterator[Leftover]:
    store, latest = Store(home.store), time.time() - unused_for
    for stored in store.objects():
        path = store.path(stored.sha256) if stored.whole else home.store / "partial" / stored.sha256
        if stored.whole and (path.stat().st_nlink > 1 or stored.used > latest):
            continue  # linked from a model's directory: to remove it here would give nothing back
        what: What = "stored file" if stored.whole else "partial download"
        yield Leftover(what, path, stored.size, stored.used, stored.sha256)


def _last_used(leftover: Leftover) -> float:
    try:
        facts = leftover.path.stat()
    except FileNotFoundError:
        return leftover.used
    return facts.st_atime if leftover.what == "stored file" else facts.st_mtime


def _environments(home: Home) -> Iterator[Leftover]:
    current = home.current.resolve()
    for path in _directories(home.environments):
        if path != current and not Generation(path, "", "", "").complete:
            yield Leftover("unfinished environment", path, _room(path), path.stat().st_mtime)


def _models(home: Home) -> Iterator[Leftover]:
    for path in _directories(home.models):
        if path.name.startswith("."):  # see bootstrap.weights
            yield Leftover("unfinished model", path, _room(path), path.stat().st_mtime)


def _temporary(home: Home) -> Iterator[Leftover]:
    """What is written and renamed within moments, and has been there for long."""
    patterns = ((home.cache, "*.tmp"), (home.cache, ".choices.json.*"), (home.deployments, "*.tmp"))
    files = [path for directory, pattern in patterns for path in sorted(directory.glob(pattern))]
    for path in (*Store(home.store).debris(), *files):
        with suppress(FileNotFoundError):  # done meanwhile
            used = _touched(path)
            if used < time.time() - RECENT:
                room = _room(path) if path.is_dir() else path.lstat().st_blocks * 512
                yield Leftover("temporary file", path, room, used)


def _discard(store: Store, leftover: Leftover) -> bool:
    if store.root in leftover.path.parents:
        return store.discard(leftover.path)
    leftover.path.unlink(missing_ok=True)
    return True


def _touched(path: Path) -> float:
    """When a file, or anything in a directory, was last written."""
    below = list(path.iterdir()) if path.is_dir() else []
    return max(found.lstat().st_mtime for found in [path, *below])


def _directories(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.glob("*")) if path.is_dir() and not path.is_symlink()]


def _room(directory: Path) -> int:
    """The bytes of disk that go with a directory: a file that has another link stays."""
    room = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            facts = (Path(parent) / name).lstat()
            room += facts.st_blocks * 512 if facts.st_nlink == 1 else 0
    return room


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Neither an installation nor the fetching of a model's weights goes on meanwhile."""
    locks = [FileLock(path) for path in (home.data / ".install.lock", home.cache / ".models.lock") if path.exists()]
    try:
        for lock in locks:
            lock.acquire(timeout=0)
        yield
    except Timeout:
        raise SetupError("an installation is under way", "run `i2v-setup clean` again when it has ended") from None
    finally:
        for lock in locks:
            lock.release()
