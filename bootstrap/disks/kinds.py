"""Of what kind a mounted file system's disk is: from /sys, through partitions, LVM, LUKS, RAID, loops and overlays.

Where a file system lies on several disks the slowest kind counts. Inside a virtual machine a disk is what the
hypervisor makes of it: that is told as "virtual", since what lies below cannot be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bootstrap.disks import mounts as mounted
from bootstrap.disks.mounts import Mount
from bootstrap.small_files import text

Kind = Literal["nvme", "ssd", "hdd", "virtual", "network", "memory", "unknown"]

_SLOWEST_FIRST: tuple[Kind, ...] = ("network", "hdd", "unknown", "virtual", "ssd", "nvme", "memory")
# fmt: off
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "orangefs", "smb3", "smbfs", "wekafs",
    "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.mount-s3",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
})
# fmt: on
_MEMORY = frozenset({"tmpfs", "ramfs"})
_REMOTE_DEVICES = ("nbd", "rbd", "drbd")
_VIRTUAL_DEVICES = ("vd", "xvd")
_VIRTUAL_MODELS = (
    "Amazon Elastic Block Store",
    "Google PersistentDisk",
    "MSFT",
    "Msft",
    "PersistentDisk",
    "QEMU",
    "VBOX",
    "VMware",
    "Virtual",
    "nvme_card-pd",
)
_CONTAINER_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def is_network(filesystem: str) -> bool:
    """Whether a file system of that type lies on another machine."""
    return filesystem in _NETWORK


def of(mount: Mount, mounts: Sequence[Mount], root: Path) -> Kind:
    """The kind of disk that `mount`, one of `mounts`, lies on. `root` is where /sys is looked for."""
    if is_network(mount.filesystem):
        return "network"
    if mount.filesystem in _MEMORY:
        return "memory"
    if mount.filesystem == "overlay":
        below = _below_overlay(mount, mounts)
        return of(below, mounts, root) if below is not None else "unknown"
    if mount.filesystem == "virtiofs":
        return "virtual"
    device = _device(mount, root)
    return _kind(device, mounts, root) if device is not None else "unknown"


def removable(mount: Mount, root: Path) -> bool:
    """Whether the disk may be pulled out: a stick, a card, a disk behind USB."""
    device = _device(mount, root)
    if device is None:
        return False
    disk = device.parent if (device / "partition").exists() else device
    return text(disk / "removable") == "1" or "/usb" in str(disk)


def _below_overlay(mount: Mount, mounts: Sequence[Mount]) -> Mount | None:
    """Where an overlay's writable layer lies.

    Inside a container its path is one of the host's. But the engine keeps the files that it puts over /etc/hosts and
    the like beside that layer, and those are mounted from the device itself.
    """
    upper = next((option[9:] for option in mount.options if option.startswith("upperdir=")), None)
    if upper is not None and Path(upper).is_dir():
        return mounted.holding(Path(upper), [other for other in mounts if other.filesystem != "overlay"])
    files = (other for other in mounts if other.point in _CONTAINER_FILES and other.source.startswith("/dev/"))
    return next(files, None)


def _device(mount: Mount, root: Path) -> Path | None:
    """The directory of the mount's block device in /sys."""
    by_number = root / "sys/dev/block" / mount.number
    if by_number.exists():
        return by_number.resolve()
    if not mount.source.startswith("/dev/"):
        return None
    name = mount.source.removeprefix("/dev/")  # btrfs has no device number of its own
    if name.startswith("mapper/"):
        mapped = (root / "sys/class/block").glob("dm-*")
        named = (path for path in mapped if text(path / "dm/name") == name.removeprefix("mapper/"))
        found = next(named, None)
        return found.resolve() if found is not None else None
    by_name = root / "sys/class/block" / name
    return by_name.resolve() if by_name.exists() else None


def _kind(device: Path, mounts: Sequence[Mount], root: Path) -> Kind:
    disk = device.parent if (device / "partition").exists() else device
    slaves = sorted((disk / "slaves").glob("*"))
    if slaves:
        return slowest([_kind(slave.resolve(), mounts, root) for slave in slaves])
    if backing := text(disk / "loop/backing_file"):
        below = mounted.holding(Path(backing), mounts)
        itself = below is not None and below.number == text(disk / "dev")  # a path of another mount namespace
        return of(below, mounts, root) if below is not None and not itself else "unknown"
    return _by_name(disk)


def _by_name(disk: Path) -> Kind:
    name, model = disk.name, f"{text(disk / 'device/vendor')} {text(disk / 'device/model')}"
    if name.startswith(("zram", "ram", "pmem")):
        return "memory"
    remote = name.startswith(_REMOTE_DEVICES) or text(disk / "device/transport") in {"tcp", "rdma", "fc"}
    if remote or "/session" in str(disk):  # the last is iSCSI
        return "network"
    if name.startswith(_VIRTUAL_DEVICES) or any(virtual in model for virtual in _VIRTUAL_MODELS):
        return "virtual"  # what a hypervisor says of rotation is often its default, not the disk below
    if name.startswith("nvme"):
        return "nvme"
    rotational = text(disk / "queue/rotational")
    return "hdd" if rotational == "1" else "ssd" if rotational == "0" else "unknown"


def slowest(kinds: Sequence[Kind]) -> Kind:
    """The one of them that is slowest as a rule."""
    return min(kinds, key=_SLOWEST_FIRST.index)
