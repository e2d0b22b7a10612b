"""Decides at the first installation where what is large lies: environments, the store, models, and uv's cache.

All of it is put on one file system: within one, files are linked, and an environment is there in a second; between two
they are copied, which takes ten. The usual place stays unless it lacks the room, or lies on a disk that is clearly
slower than another one that has it. I2V_SETUP_HOME wins over all of this. What was decided is recorded in the
configuration directory, so that every later command finds it.

Does not move what is there: with an environment, a model or a store in the usual place, that is where things are. Where
no disk has the room nothing is decided: the next try may find a new one.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from bootstrap import atomic, disks, state
from bootstrap.backends import uv_cache as uvs
from bootstrap.disks import Disk, mounts
from bootstrap.disks.mounts import Mount
from bootstrap.errors import SetupError
from bootstrap.state import Home
from bootstrap.units import size

Measure = Callable[[Sequence[Disk]], Sequence[Disk]]

_SPARE = 10_000_000_000  # bytes that should stay free for the next model, if a disk has them
_CLEARLY = 3.0  # times as fast; less is within what a short measurement can err (see bootstrap.disks.speed)
_SLOW = ("hdd", "network")
_TEMPORARY = ("/tmp", "/var/tmp", "/run", "/media", "/Volumes", "/dev", "/mnt/wsl", "/mnt/wslg")  # noqa: S108
_SYSTEM = (
    *("/boot", "/etc", "/proc", "/sys", "/usr", "/System"),
    *("/var/lib/docker", "/var/lib/containers", "/var/lib/kubelet"),
)
# Windows' disks and object stores: no links, no locks, or no rights, all of which an environment or the store needs.
_LACKING = frozenset(
    {
        *("9p", "cifs", "drvfs", "exfat", "fuseblk", "msdos", "ntfs", "ntfs3", "smb3", "smbfs", "vfat"),
        *("fuse.gcsfuse", "fuse.goofys", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs"),
    }
)
_VOLATILE = "DATALOSS_WARNING_README.txt"  # lies on cloud disks that are emptied when the machine stops


@dataclass(frozen=True)
class Placement:
    """Where things lie, and why.

    Attributes:
        home: the directories.
        reason: in words.
        new: this was decided just now; `record` keeps it.
        moved: it is another disk than the usual one's.
    """

    home: Home
    reason: str
    new: bool = False
    moved: bool = False


def choose(
    home: Home,
    found: Sequence[Disk],
    needed: int,
    *,
    environ: Mapping[str, str] = os.environ,
    measure: Measure = disks.measured,
) -> Placement:
    """Where an installation that takes `needed` bytes puts what is large. Changes nothing.

    Args:
        home: the directories in force.
        found: the machine's disks.
        needed: bytes that the installation takes.
        environ: the environment.
        measure: fills in how fast disks read; asked only where there is a choice.
    """
    if environ.get(state.NAME):
        return Placement(home, f"{state.NAME} says so")
    decided = state.read_place(home.place)
    if decided is not None:
        return Placement(home, decided.reason)
    usual = _usual(home, found)
    begun = home.store.exists() and (usual is None or usual.free >= needed)  # a try that found no room binds nobody
    if begun or home.models.exists() or home.environments.exists():
        return Placement(home, "an earlier installation put things there")
    if usual is None:
        return Placement(home, "the usual place", new=True)
    others = [disk for disk in found if _eligible(disk) and disk.mount != usual.mount]
    return _decide(home, usual, others, needed, measure)


def _decide(home: Home, usual: Disk, others: Sequence[Disk], needed: int, measure: Measure) -> Placement:
    for wanted in (needed + _SPARE, needed):
        fitting = [disk for disk in others if disk.free >= wanted]
        if usual.free >= wanted:
            return _fastest(home, usual, fitting, measure)
        if fitting:
            best = _best(measure(fitting))
            spare = f" and {size(wanted - needed)} for models to come" if wanted > needed else ""
            lacks = f"{usual.mount} has {size(usual.free)} free, and {size(needed)}{spare} are wanted"
            return Placement(_on(home, best), f"{lacks}; {_told(best)}", new=True, moved=True)
    return Placement(home, f"no disk has the {size(needed)} that are needed; {_told(usual)}")


def record(placement: Placement) -> None:
    """Keep what was decided, and make the directory that it is about.

    Raises:
        SetupError: a directory cannot be written or is not ours; or another first installation decided otherwise.
    """
    if not placement.new:
        return
    home = placement.home
    with FileLock(state.writable(home.config) / ".place.lock"):
        decided = state.read_place(home.place)
        if decided is not None and (decided.data, decided.cache) != (home.data, home.cache):
            raise SetupError(
                f"another installation decided meanwhile for {decided.data}, this one for {home.data}",
                "run the command again: it will use what the other one does",
            )
        state.writable(home.data)
        if placement.moved and not _may_be_ours(home.data):
            raise SetupError(f"{home.data} belongs to somebody else", f"set {state.NAME} to a directory of yours")
        if decided is None:
            _write(home, placement.reason)


def _write(home: Home, reason: str) -> None:
    told = {"data": str(home.data), "cache": str(home.cache), "reason": reason}
    content = json.dumps(told, indent=2) + "\n"
    temporary = home.place.with_name(f".{home.place.name}.{os.getpid()}")
    atomic.replace(home.place, content.encode(), temporary, private=False)


def uv_cache(home: Home, mounted: Sequence[Mount] | None = None) -> Path | None:
    """Where uv's cache must lie to be on the file system of the environments; None where it does, or the user said."""
    usual = uvs.directory({})
    if os.environ.get("UV_CACHE_DIR"):
        return None
    mounted = mounts.read() if mounted is None else mounted
    here, there = mounts.holding(usual, mounted), mounts.holding(home.environments, mounted)
    return None if here == there else uvs.ours(home)


def _usual(home: Home, found: Sequence[Disk]) -> Disk | None:
    """The disk of the usual place: of the two, if data and cache lie apart, the one with less room."""
    lying = [disk for path in (home.data, home.cache) if (disk := _holding(path, found)) is not None]
    return min(lying, key=lambda disk: disk.free, default=None)


def _holding(path: Path, found: Sequence[Disk]) -> Disk | None:
    place = path.resolve()
    above = {str(parent) for parent in (place, *place.parents)}
    return max((disk for disk in found if disk.mount in above), key=lambda disk: len(disk.mount), default=None)


def _eligible(disk: Disk) -> bool:
    """Whether something may be put there that is to stay."""
    if not disk.writable or disk.removable or disk.problem is not None or disk.kind == "memory" or disk.mount == "/":
        return False
    if any(disk.mount == top or disk.mount.startswith(f"{top}/") for top in (*_TEMPORARY, *_SYSTEM)):
        return False
    if disk.filesystem in _LACKING or (Path(disk.mount) / _VOLATILE).exists():
        return False
    return _may_be_ours(_base(disk))


def _may_be_ours(directory: Path) -> bool:
    """Whether it is ours or nobody's yet. Where several may write, somebody may have put theirs, or a link, there."""
    try:
        there = directory.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return stat.S_ISDIR(there.st_mode) and there.st_uid == os.geteuid()


def _fastest(home: Home, usual: Disk, fitting: Sequence[Disk], measure: Measure) -> Placement:
    """The usual place, or a disk that is clearly faster."""
    local = [disk for disk in fitting if disk.kind not in _SLOW]
    if local:
        usual, *measured = measure([usual, *local])
        best = _best(measured)
        times = 1.0 if usual.kind in _SLOW else _CLEARLY
        known = best.read_speed is not None and usual.read_speed is not None
        if (best.read_speed or 0) > times * (usual.read_speed or 0) if known else usual.kind in _SLOW:
            slow = f"{usual.mount} is slower ({_kind(usual)})"
            return Placement(_on(home, best), f"{slow}; {_told(best)}", new=True, moved=True)
    return Placement(home, f"the usual place; {_told(usual)}", new=True)


def _best(measured: Sequence[Disk]) -> Disk:
    """The fastest; those that are slow by their kind last, and with no measurement the one with the most room."""
    return max(measured, key=lambda disk: (disk.kind != "network", disk.kind != "hdd", disk.read_speed or 0, disk.free))


def _on(home: Home, disk: Disk) -> Home:
    """The home with what is large on that disk."""
    base = _base(disk)
    return replace(home, data=base, cache=base / "cache")


def _base(disk: Disk) -> Path:
    """The directory on that disk: one of the user's own, since several may write there."""
    return Path(disk.mount) / ("i2v-setup" if os.geteuid() == 0 else f"i2v-setup-{_user()}")


def _user() -> str:
    """The user's name; the number where there is none, as in a container that is started with --user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _told(disk: Disk) -> str:
    return f"{disk.mount} has {size(disk.free)} free ({_kind(disk)})"


def _kind(disk: Disk) -> str:
    kind = {"unknown": "disk of a kind that is not told", "virtual": "virtual disk"}.get(disk.kind, disk.kind)
    return f"{kind}, reads {size(disk.read_speed)}/s" if disk.read_speed else kind
