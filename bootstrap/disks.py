"""Which disks a machine has, of what kind, and how much room they have."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from bootstrap.errors import SetupError

Kind = Literal["nvme", "ssd", "hdd", "virtual", "network", "memory", "unknown"]
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
    "lustre",
    "beegfs",
    "fuse.juicefs",
}
_MEMORY = {"tmpfs", "ramfs"}
_IGNORED = {"squashfs", "iso9660", "devtmpfs", "autofs"}


@dataclass(frozen=True)
class Disk:
    """A mounted file system; sizes in bytes, `free` is what this user may still write."""

    mount: str
    device: str
    filesystem: str
    kind: Kind
    total: int
    free: int


def detect(root: Path = Path("/")) -> tuple[Disk, ...]:
    """The writable disks, largest free space first. `root` is where /sys is looked for."""
    found: dict[str, Disk] = {}
    for part in psutil.disk_partitions(all=True):
        if part.fstype in _IGNORED or not (
            part.device.startswith("/dev/") or part.fstype in _NETWORK or part.fstype == "overlay"
        ):
            continue
        try:
            usage = shutil.disk_usage(part.mountpoint)
        except OSError:
            continue  # a network mount that is gone
        if usage.total and os.access(part.mountpoint, os.X_OK) and not Path(part.mountpoint).is_file():
            disk = Disk(
                part.mountpoint,
                part.device,
                part.fstype,
                _kind(part.device, part.fstype, root),
                usage.total,
                usage.free,
            )
            found.setdefault(part.device if part.device.startswith("/dev/") else part.mountpoint, disk)
    return tuple(sorted(found.values(), key=lambda disk: -disk.free))


def require_room(directory: Path, needed: int, purpose: str) -> None:
    """Check that `needed` bytes fit where `directory` lies, or will lie.

    Raises:
        SetupError: they do not.
    """
    place = directory
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise SetupError(
            f"{purpose} needs {needed / 1e9:.1f} GB, and {place} has {free / 1e9:.1f} GB free",
            "free some space, or set I2V_SETUP_HOME to a directory on a larger disk",
        )


def _kind(device: str, filesystem: str, root: Path) -> Kind:
    if filesystem in _NETWORK:
        return "network"
    if filesystem in _MEMORY:
        return "memory"
    name = Path(device).resolve().name if device.startswith("/dev/") else ""
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith(("vd", "xvd")):
        return "virtual"  # what the hypervisor says of rotation is often its default, not the disk below
    base = re.sub(r"\d+$", "", name) if not (root / "sys/block" / name).exists() else name
    try:
        rotational = (root / "sys/block" / base / "queue/rotational").read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
    return "hdd" if rotational == "1" else "ssd"
