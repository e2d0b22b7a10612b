"""Wheels that lie in directories of this machine, and so need not be fetched.

Which files may be it, their names say; whether one is, its sha256. A file's sha256 is worked out once in a process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from mirrors import tags
from mirrors.digest import sha256_of
from mirrors.lock import Pin


@dataclass(frozen=True)
class LocalWheel:
    """A wheel that a lock allows: where it lies, its sha256 and its size in bytes."""

    path: Path
    sha256: str
    size: int


class Shelf:
    """The wheels in some directories and below, by their names. The directories are listed once; no file is read."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._wheels: dict[tuple[str, Version], list[Path]] = {}
        for directory in directories:
            for path in sorted(directory.rglob("*.whl")):
                try:
                    name, version, _, _ = parse_wheel_filename(path.name)
                except InvalidWheelFilename:
                    continue
                self._wheels.setdefault((name, version), []).append(path)

    def __bool__(self) -> bool:
        return bool(self._wheels)

    def candidates(self, pin: Pin, places: Mapping[Tag, int]) -> list[Path]:
        """The files that are a pin's wheel by their names, best first."""
        fitting = [(tags.place(path.name, places), path) for path in self._of(pin)]
        return [path for place, path in sorted(fitting, key=lambda it: it[0] or 0) if place is not None]

    def find(self, pin: Pin, places: Mapping[Tag, int]) -> LocalWheel | None:
        """The wheel of a pin that fits best, of those with a sha256 that the lock allows."""
        names = dict(pin.names)
        for path in self.candidates(pin, places):
            try:
                status = path.stat()
                sha256 = _sha256(path, status.st_size, status.st_mtime_ns)
            except OSError:  # a link to nothing, a directory, somebody else's file: it is none that we can use
                continue
            # Whose hash that is, the lock says, not the file's name.
            if sha256 in pin.sha256s and (not names or names.get(path.name) == sha256):
                return LocalWheel(path.resolve(), sha256, status.st_size)
        return None

    def _of(self, pin: Pin) -> list[Path]:
        return self._wheels.get((pin.name, Version(pin.version)), [])


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:  # noqa: ARG001  # a file that was changed is another one
    return sha256_of(path)
