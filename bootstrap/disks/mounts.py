"""What is mounted where: /proc/self/mountinfo, or on other systems than Linux what psutil says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Mount:
    """A mounted file system, or a part of one.

    Attributes:
        point: the directory where it is seen.
        number: the device as "major:minor"; its major is 0 for what has no block device of its own.
        root: the part of the file system that is seen there; "/" is all of it.
        filesystem: its type.
        source: the device, the server, or a mere name.
        read_only: whether nothing may be written there.
        options: those of the file system, such as an overlay's directories.
    """

    point: str
    number: str
    root: str
    filesystem: str
    source: str
    read_only: bool = False
    options: tuple[str, ...] = ()


def read(root: Path = Path("/")) -> tuple[Mount, ...]:
    """All mounts, in the order in which they were made. `root` is where /proc is looked for."""
    try:
        text = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return tuple(
            Mount(part.mountpoint, "0:0", "/", part.fstype, part.device, "ro" in part.opts.split(","))
            for part in psutil.disk_partitions(all=False)
        )
    return tuple(mount for line in text.splitlines() if (mount := _parse(line)) is not None)


def holding(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that a path lies on, or will lie on."""
    place = path.resolve()
    above = {str(parent) for parent in (place, *place.parents)}
    found = [mount for mount in mounts if mount.point in above]
    return max(reversed(found), key=lambda mount: len(mount.point), default=None)  # of two at one point the later


def _parse(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    head, tail = before.split(), after.split()
    if not dash or len(head) < 6 or len(tail) < 2:
        return None
    options = tuple(tail[2].split(",")) if len(tail) > 2 else ()
    read_only = "ro" in head[5].split(",") or "ro" in options
    return Mount(_plain(head[4]), head[2], _plain(head[3]), tail[0], _plain(tail[1]), read_only, options)


def _plain(field: str) -> str:
    """A field without the escapes of spaces, tabs and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
