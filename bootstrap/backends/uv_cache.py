"""What uv's cache has unpacked already: it is neither fetched again nor does it take room again.

Reads the layout of `archive-v0`, one directory a wheel. Where uv lays it out otherwise some day, nothing is found, and
more room is asked for than is needed; nothing else depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from packaging.utils import canonicalize_name

from bootstrap.state import Home

_RECORDS = ".dist-info"


def directory(env: Mapping[str, str]) -> Path:
    """Where uv's cache is, for a uv that gets these variables beside our own."""
    named = env.get("UV_CACHE_DIR") or os.environ.get("UV_CACHE_DIR")
    if named:
        return Path(named).absolute()
    usual = os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "uv"


def ours(home: Home) -> Path:
    """Where uv's cache is put for this tool alone, if the usual one is not on the file system of the environments."""
    return home.data / "uv-cache"


def unpacked(cache: Path) -> dict[tuple[str, str], Path]:
    """The records (a directory `.dist-info`) of all wheels that are unpacked there, by project and version."""
    found: dict[tuple[str, str], Path] = {}
    with suppress(OSError), os.scandir(cache / "archive-v0") as archives:
        for archive in archives:
            with suppress(OSError), os.scandir(archive.path) as entries:
                for entry in entries:
                    if entry.name.endswith(_RECORDS):
                        project, _, version = entry.name.removesuffix(_RECORDS).partition("-")
                        found[canonicalize_name(project), version] = Path(entry.path)
    return found


def length(records: Path) -> int:
    """The bytes of a wheel's files, as its RECORD says; 0 where it cannot be read."""
    try:
        lines = (records / "RECORD").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return 0
    sizes = (line.rpartition(",")[2] for line in lines)
    return sum(int(size) for size in sizes if size.isdecimal())
