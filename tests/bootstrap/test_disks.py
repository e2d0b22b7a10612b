from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import bounded, disks, state
from bootstrap.disks import Usage, kinds, mounts, speed
from bootstrap.disks.kinds import Kind
from bootstrap.errors import SetupError
from tests.loop_disk import loop_disk

MIB = 2**20


def test_disks_have_sizes_and_a_kind() -> None:
    found = disks.detect()
    assert found
    assert all(0 <= disk.free <= disk.total for disk in found)
    assert found == tuple(sorted(found, key=lambda disk: -disk.free))


def test_a_home_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(SetupError, match="cannot be written") as caught:
        state.writable(file / "home")
    assert "I2V_SETUP_HOME" in caught.value.hint


MOUNTINFO = r"""
28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
40 28 0:45 / /mnt/my\040files rw,noatime shared:9 master:3 - nfs4 filer:/export/my\040files rw,vers=4.2
41 28 8:1 / /data ro,relatime - ext4 /dev/sda1 rw
42 28 0:50 / /dev/shm rw - tmpfs tmpfs rw,size=1024k
43 28 7:0 / /snap/core ro - squashfs /dev/loop0 ro
44 28 0:62 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,upperdir=/x
a line that is none
"""


def mounted(root: Path, text: str = MOUNTINFO) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(text, encoding="utf-8")
    return root


def test_mounts_are_read_with_their_spaces_and_rights(tmp_path: Path) -> None:
    found = {mount.point: mount for mount in mounts.read(mounted(tmp_path))}
    assert found["/mnt/my files"].source == "filer:/export/my files"
    assert [point for point, mount in found.items() if mount.read_only] == ["/data", "/snap/core"]
    assert found["/dev/shm"].options == ("rw", "size=1024k")


def test_of_all_mounts_those_count_that_hold_files_for_long(tmp_path: Path) -> None:
    found = disks.detect(mounted(tmp_path), usage=lambda point: Usage(100, len(point), writable=True))
    assert [disk.mount for disk in found] == ["/mnt/my files", "/data", "/"]
    assert [disk.writable for disk in found] == [True, False, True]


def test_a_disk_that_does_not_answer_is_a_fact_and_holds_nobody_up(tmp_path: Path) -> None:
    gone = threading.Event()

    def usage(point: str) -> Usage:
        if point.startswith("/mnt"):
            gone.wait(60)
        if point == "/data":
            raise OSError(5, "Input/output error")
        return Usage(100, 50, writable=True)

    found = {disk.mount: disk for disk in disks.detect(mounted(tmp_path), usage=usage, patience=0.5)}
    gone.set()
    assert found["/mnt/my files"].problem == "does not answer"
    assert found["/data"].problem == "Input/output error"
    assert found["/"].problem is None
    assert not found["/data"].writable


def test_what_is_gathered_is_what_came_in_time() -> None:
    late = threading.Event()

    def fails() -> int:
        raise OSError

    calls: dict[str, Callable[[], int]] = {"quick": lambda: 1, "late": lambda: int(late.wait(60)), "fails": fails}
    assert bounded.gather(calls, 0.3) == {"quick": 1}
    late.set()
    assert bounded.gather({}, 0.3) == {}


def block(root: Path, name: str, **files: str) -> Path:
    """A block device in /sys, with files such as queue__rotational."""
    device = root / "sys/devices" / name
    for path, text in files.items():
        file = device / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    device.mkdir(parents=True, exist_ok=True)
    return device


@pytest.mark.parametrize(
    ("name", "files", "kind"),
    [
        ("nvme0n1", {"queue__rotational": "0", "device__transport": "pcie"}, "nvme"),
        ("nvme0n1", {"queue__rotational": "0", "device__transport": "tcp"}, "network"),
        ("nvme0n1", {"queue__rotational": "0", "device__model": "Amazon Elastic Block Store"}, "virtual"),
        ("sda", {"queue__rotational": "0", "device__vendor": "ATA", "device__model": "Samsung SSD 860"}, "ssd"),
        ("sda", {"queue__rotational": "1", "device__vendor": "ATA", "device__model": "ST4000"}, "hdd"),
        ("sda", {"queue__rotational": "1", "device__vendor": "QEMU", "device__model": "QEMU HARDDISK"}, "virtual"),
        ("sda", {"queue__rotational": "1", "device__vendor": "Msft", "device__model": "Virtual Disk"}, "virtual"),
        ("vda", {"queue__rotational": "1"}, "virtual"),
        ("mmcblk0", {"queue__rotational": "0"}, "ssd"),
        ("rbd0", {"queue__rotational": "0"}, "network"),
        ("nbd3", {"queue__rotational": "0"}, "network"),
        ("zram0", {"queue__rotational": "0"}, "memory"),
        ("host3/session1/target3:0:0/block/sdb", {"queue__rotational": "1"}, "network"),
        ("sdz", {}, "unknown"),
    ],
)
def test_the_kind_of_a_block_device(name: str, files: dict[str, str], kind: Kind, tmp_path: Path) -> None:
    device = block(tmp_path, name, **files)
    numbers = tmp_path / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "8:0").symlink_to(device)
    mount = mounts.Mount("/", "8:0", "/", "ext4", "/dev/x")
    assert kinds.of(mount, [mount], tmp_path) == kind


def test_of_several_disks_below_one_the_slowest_counts(tmp_path: Path) -> None:
    fast = block(tmp_path, "nvme0n1", queue__rotational="0", nvme0n1p1__partition="1")
    slow = block(tmp_path, "sda", queue__rotational="1")
    mapped = block(tmp_path, "dm-0", queue__rotational="0", dm__name="vg-data")
    (mapped / "slaves").mkdir()
    (mapped / "slaves/nvme0n1p1").symlink_to(fast / "nvme0n1p1")
    classes = tmp_path / "sys/class/block"
    classes.mkdir(parents=True)
    (classes / "dm-0").symlink_to(mapped)
    mount = mounts.Mount("/data", "0:31", "/", "btrfs", "/dev/mapper/vg-data")  # btrfs has no number of its own
    assert kinds.of(mount, [mount], tmp_path) == "nvme"
    (mapped / "slaves/sda").symlink_to(slow)
    assert kinds.of(mount, [mount], tmp_path) == "hdd"


@pytest.mark.parametrize(
    ("filesystem", "kind"), [("nfs4", "network"), ("fuse.sshfs", "network"), ("tmpfs", "memory"), ("wslfs", "unknown")]
)
def test_some_file_systems_tell_their_kind(filesystem: str, kind: Kind, tmp_path: Path) -> None:
    mount = mounts.Mount("/", "0:9", "/", filesystem, "x")
    assert kinds.of(mount, [mount], tmp_path) == kind


def test_a_path_lies_on_the_innermost_mount_made_last(tmp_path: Path) -> None:
    root = mounts.Mount("/", "8:1", "/", "ext4", "/dev/a")
    first = mounts.Mount(str(tmp_path), "8:2", "/", "ext4", "/dev/b")
    later = mounts.Mount(str(tmp_path), "8:3", "/", "ext4", "/dev/c")
    assert mounts.holding(tmp_path / "not/yet", [root, first, later]) == later
    assert mounts.holding(tmp_path.parent, [root, first, later]) == root
    (tmp_path.parent / "link").symlink_to(tmp_path)
    assert mounts.holding(tmp_path.parent / "link/x", [root, first]) == first


def test_speed_is_read_from_a_file_that_is_there_and_of_some_size(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * MIB)
    assert speed.sample(tmp_path) is None
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(100 * MIB)
    assert speed.sample(tmp_path) is None
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/large").write_bytes(os.urandom(16 * MIB))
    os.sync()
    (tmp_path / "link").symlink_to(tmp_path / "deep/er/large")
    assert speed.sample(tmp_path) == tmp_path / "deep/er/large"
    rate = speed.measure(tmp_path)
    assert rate is None or rate > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "hole", "link", "small"]


def test_what_is_no_plain_file_is_not_read_from(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert speed.sample(tmp_path) is None


def test_a_loop_is_of_the_kind_of_the_disk_that_its_file_lies_on(tmp_path: Path) -> None:
    below = mounts.holding(tmp_path, mounts.read())
    assert below is not None
    with loop_disk(tmp_path / "image", tmp_path / "mount", 64) as mount:
        (mount / "large").write_bytes(os.urandom(32 * MIB))
        os.sync()
        found = next(disk for disk in disks.measured(disks.detect()) if disk.mount == str(mount))
        assert found.kind == kinds.of(below, mounts.read(), Path("/"))
        assert found.read_speed is None or found.read_speed > 0
        assert found.total < 64 * MIB
