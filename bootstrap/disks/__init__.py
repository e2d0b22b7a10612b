"""Which disks a machine has, of what kind, how much room they have, and how fast they read.

A disk that does not answer, such as a network volume whose server is gone, is a fact and holds nobody up.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bootstrap import bounded
from bootstrap.disks import kinds, mounts, speed
from bootstrap.disks.kinds import Kind
from bootstrap.disks.mounts import Mount

__all__ = ["Disk", "Kind", "Usage", "detect", "look", "measured"]

_IGNORED = frozenset({"squashfs", "iso9660", "devtmpfs", "autofs", "erofs"})
_BOOT = ("/boot", "/efi")
_PATIENCE = 2.0  # seconds until a disk that does not answer is given up
_MEASURED = 8  # disks, those with the most room


@dataclass(frozen=True)
class Disk:
    """A mounted file system.

    Attributes:
        mount: where it is seen.
        device: the device or server it comes from.
        filesystem: its type.
        kind: what it lies on.
        total: its size in bytes.
        free: bytes of it that this user may still write.
        writable: whether this user may write at `mount` itself.
        removable: whether it may be pulled out.
        read_speed: bytes per second, where it was measured (see `bootstrap.disks.speed`).
        problem: why nothing is known of it; None if all is well.
    """

    mount: str
    device: str
    filesystem: str
    kind: Kind
    total: int
    free: int
    writable: bool = True
    removable: bool = False
    read_speed: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Usage:
    """The room of a mounted directory in bytes, and whether this user may write there."""

    total: int
    free: int
    writable: bool


def look(mount: str) -> Usage | None:
    """The usage of a mounted directory; None if it is no directory that we may enter.

    Raises:
        OSError: it is not there any more.
    """
    if not Path(mount).is_dir() or not os.access(mount, os.X_OK):
        return None
    usage = shutil.disk_usage(mount)
    return Usage(usage.total, usage.free, os.access(mount, os.W_OK | os.X_OK))


def detect(
    root: Path = Path("/"), *, usage: Callable[[str], Usage | None] = look, patience: float = _PATIENCE
) -> tuple[Disk, ...]:
    """The disks, largest free space first.

    Args:
        root: where /proc and /sys are looked for.
        usage: how a mounted directory is looked at.
        patience: seconds after which a disk that does not answer is given up.
    """
    mounted = mounts.read(root)
    chosen = {mount.point: mount for mount in mounted if _matters(mount)}  # of two at one point the later is seen
    answers = bounded.gather({point: partial(_asked, usage, point) for point in chosen}, patience)
    found: dict[str, Disk] = {}
    for point, mount in chosen.items():
        disk = _disk(mount, mounted, root, answers.get(point, "late"))
        if disk is not None:
            found.setdefault(mount.source if mount.source.startswith("/dev/") else point, disk)
    return tuple(sorted(found.values(), key=lambda disk: -disk.free))


def measured(found: Sequence[Disk], patience: float = _PATIENCE) -> tuple[Disk, ...]:
    """The disks with the speed at which they read, those that matter: not memory, and with some room."""
    worth = [disk for disk in found if disk.kind != "memory" and disk.problem is None and disk.free][:_MEASURED]
    rates = bounded.gather({disk.mount: partial(speed.measure, Path(disk.mount)) for disk in worth}, patience)
    return tuple(replace(disk, read_speed=rates.get(disk.mount)) for disk in found)


def _matters(mount: Mount) -> bool:
    if mount.filesystem in _IGNORED or mount.point.startswith(_BOOT):
        return False
    if mount.filesystem == "overlay":
        return mount.point == "/"  # elsewhere it is a container's, seen from outside
    return (
        mount.source.startswith("/dev/")
        or kinds.is_network(mount.filesystem)
        or mount.filesystem in {"zfs", "virtiofs"}
    )


def _asked(usage: Callable[[str], Usage | None], point: str) -> Usage | str | None:
    try:
        return usage(point)
    except OSError as error:
        return error.strerror or "cannot be read"


def _disk(mount: Mount, mounted: Sequence[Mount], root: Path, answer: Usage | str | None) -> Disk | None:
    if answer is None or (isinstance(answer, Usage) and not answer.total):
        return None
    kind, removable = kinds.of(mount, mounted, root), kinds.removable(mount, root)
    plain = Disk(mount.point, mount.source, mount.filesystem, kind, 0, 0, removable=removable, writable=False)
    if isinstance(answer, str):
        return replace(plain, problem="does not answer" if answer == "late" else answer)
    return replace(plain, total=answer.total, free=answer.free, writable=answer.writable and not mount.read_only)
