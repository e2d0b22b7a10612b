from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bootstrap import disks, placement, state
from bootstrap.disks import Disk, Kind, mounts
from bootstrap.errors import SetupError
from bootstrap.placement import Measure, Placement
from bootstrap.state import Home
from tests.bootstrap.machines import recorded
from tests.loop_disk import loop_disk

GB = 10**9
NEEDED = 20 * GB


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The usual places of a user who set nothing, in a home of this test's own."""
    for name in ("I2V_SETUP_HOME", "UV_CACHE_DIR", *(n for n in os.environ if n.startswith("XDG_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return state.home()


@pytest.fixture
def lasting() -> Iterator[Path]:
    """A directory that is not below /tmp, where nothing is ever put."""
    with TemporaryDirectory(prefix="i2v-setup-test-", dir=pwd.getpwuid(os.geteuid()).pw_dir) as directory:
        yield Path(directory)


def disk(mount: str, kind: Kind, free: int, **facts: object) -> Disk:
    return replace(Disk(mount, "/dev/x", "ext4", kind, 2 * free, free), **facts)  # type: ignore[arg-type]


def reading(**megabytes: int) -> Measure:
    """Disks that read so fast, by the last part of where they are mounted."""

    def measure(found: Sequence[Disk]) -> Sequence[Disk]:
        speeds = [megabytes.get(Path(one.mount).name or "root") for one in found]
        return [
            replace(one, read_speed=speed * 1e6 if speed else None) for one, speed in zip(found, speeds, strict=True)
        ]

    return measure


def nothing_is_measured(found: Sequence[Disk]) -> Sequence[Disk]:
    raise AssertionError("there is nothing to choose between")


def not_measurable(found: Sequence[Disk]) -> Sequence[Disk]:
    return found


def chosen(home: Home, *found: Disk, measure: Measure = not_measurable) -> Placement:
    return placement.choose(home, found, NEEDED, environ={}, measure=measure)


def test_the_usual_place_stays_where_there_is_no_other(home: Home) -> None:
    placed = chosen(home, disk("/", "nvme", 100 * GB), measure=nothing_is_measured)
    assert placed.home == home
    assert "/ has 100.0 GB free (nvme)" in placed.reason


def test_a_disk_with_room_is_taken_where_the_usual_one_lacks_it(home: Home) -> None:
    placed = chosen(
        home, disk("/", "ssd", 15 * GB), disk("/srv/autodl-tmp", "nvme", 50 * GB), disk("/fs", "network", 999 * GB)
    )
    assert placed.home.data.parent == Path("/srv/autodl-tmp")
    assert placed.home.cache.parent == placed.home.data  # one file system, so that files can be linked
    assert (placed.home.state, placed.home.config) == (home.state, home.config)
    assert "/ has 15.0 GB free" in placed.reason
    assert "/srv/autodl-tmp has 50.0 GB free (nvme)" in placed.reason


def test_room_for_a_next_model_is_wanted_if_some_disk_has_it(home: Home) -> None:
    small, large = disk("/", "nvme", NEEDED + 5 * GB), disk("/data", "nvme", 500 * GB)
    assert chosen(home, small, large).home.data.parent == Path("/data")
    assert chosen(home, small, replace(large, free=NEEDED + 6 * GB)).home == home


def test_a_network_volume_is_taken_only_where_nothing_local_has_the_room(home: Home) -> None:
    root, volume = disk("/", "nvme", 5 * GB), disk("/workspace", "network", 900 * GB)
    assert chosen(home, root, volume).home.data.parent == Path("/workspace")
    assert chosen(home, root, volume, disk("/data", "hdd", 100 * GB)).home.data.parent == Path("/data")


@pytest.mark.parametrize("kind", ["hdd", "network"])
def test_a_slow_usual_disk_is_left_for_a_faster_one(home: Home, kind: Kind) -> None:
    placed = chosen(home, disk("/", kind, 500 * GB), disk("/scratch", "nvme", 300 * GB))
    assert placed.home.data.parent == Path("/scratch")
    assert kind in placed.reason


def test_of_disks_that_are_not_told_apart_by_kind_the_clearly_faster_one_is_taken(home: Home) -> None:
    root, data = disk("/", "virtual", 500 * GB), disk("/data", "virtual", 300 * GB)
    assert chosen(home, root, data, measure=reading(root=300, data=700)).home == home
    placed = chosen(home, root, data, measure=reading(root=150, data=700))
    assert placed.home.data.parent == Path("/data")
    assert "reads 150.0 MB/s" in placed.reason
    assert "reads 700.0 MB/s" in placed.reason


def test_what_calls_itself_a_hard_disk_and_reads_fast_is_kept(home: Home) -> None:
    found = disk("/", "hdd", 500 * GB), disk("/data", "ssd", 300 * GB)
    assert chosen(home, *found, measure=reading(root=2000, data=500)).home == home


@pytest.mark.parametrize(
    "unfit",
    [
        disk("/data", "nvme", 500 * GB, writable=False),
        disk("/data", "nvme", 500 * GB, removable=True),
        disk("/data", "nvme", 500 * GB, problem="does not answer"),
        disk("/media/stick", "nvme", 500 * GB),
        disk("/run/user/1000", "nvme", 500 * GB),
        disk("/data", "memory", 500 * GB),
        disk("/Volumes/Installer", "unknown", 500 * GB),
        disk("/mnt/c", "network", 500 * GB, filesystem="9p"),
        disk("/mnt/windows", "nvme", 500 * GB, filesystem="ntfs3"),
        disk("/bucket", "network", 500 * GB, filesystem="fuse.s3fs"),
    ],
)
def test_what_may_not_be_there_tomorrow_is_not_chosen(home: Home, unfit: Disk) -> None:
    assert chosen(home, disk("/", "hdd", 500 * GB), unfit).home == home
    placed = chosen(home, disk("/", "nvme", GB), unfit)
    assert placed.home == home
    assert "no disk has the 20.0 GB" in placed.reason


def test_a_disk_that_is_emptied_when_the_machine_stops_is_not_chosen(home: Home, lasting: Path) -> None:
    found = disk("/", "hdd", 500 * GB), disk(str(lasting), "nvme", 500 * GB)
    assert chosen(home, *found).home.data.parent == lasting
    (lasting / "DATALOSS_WARNING_README.txt").touch()
    assert chosen(home, *found).home == home


def test_a_disk_where_somebody_else_has_our_directory_or_a_link_is_not_chosen(home: Home, lasting: Path) -> None:
    found = disk("/", "hdd", 500 * GB), disk(str(lasting), "nvme", 500 * GB)
    ours = chosen(home, *found).home.data
    ours.symlink_to(lasting)
    assert chosen(home, *found).home == home
    ours.unlink()
    ours.mkdir()
    assert chosen(home, *found).home.data == ours


def test_a_link_that_came_after_the_decision_is_not_followed(home: Home, lasting: Path) -> None:
    placed = chosen(home, disk("/", "hdd", 500 * GB), disk(str(lasting), "nvme", 500 * GB))
    placed.home.data.symlink_to(lasting)
    with pytest.raises(SetupError, match="belongs to somebody else"):
        placement.record(placed)
    assert not home.place.exists()


def test_of_two_first_installations_that_decide_differently_only_one_goes_on(home: Home, tmp_path: Path) -> None:
    first, second = moved_to(home, tmp_path / "data"), chosen(home, disk("/", "nvme", 500 * GB))
    placement.record(first)
    placement.record(first)  # whoever decides alike goes on too
    with pytest.raises(SetupError, match="another installation decided"):
        placement.record(second)
    assert state.home() == first.home


def test_what_is_set_or_there_already_wins(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [disk("/", "hdd", GB), disk("/data", "nvme", 500 * GB)]
    named = placement.choose(home, found, NEEDED, environ={"I2V_SETUP_HOME": "/x"}, measure=nothing_is_measured)
    assert (named.home, named.new) == (home, False)
    home.environments.mkdir(parents=True)
    there = chosen(home, *found, measure=nothing_is_measured)
    assert (there.home, there.new) == (home, False)


def test_files_that_were_fetched_already_are_used_where_there_is_room_for_the_rest(home: Home) -> None:
    home.store.mkdir(parents=True)
    assert chosen(home, disk("/", "hdd", 50 * GB), disk("/data", "nvme", 500 * GB)).home == home


def test_a_try_that_found_no_room_does_not_bind_the_next(home: Home) -> None:
    root, new = disk("/", "nvme", GB), disk("/data", "nvme", 500 * GB)
    placement.record(chosen(home, root))
    home.store.mkdir(parents=True)  # what mirrors were measured with
    assert chosen(state.home(), root, new).home.data.parent == Path("/data")


def moved_to(home: Home, place: Path) -> Placement:
    place.mkdir()
    return Placement(
        replace(home, data=place / "i2v-setup", cache=place / "i2v-setup" / "cache"), "it is faster", new=True
    )


def test_a_decision_is_recorded_and_every_later_command_finds_the_place(home: Home, tmp_path: Path) -> None:
    placed = moved_to(home, tmp_path / "data")
    placement.record(placed)
    assert state.home() == placed.home
    assert placed.home.data.is_dir()
    again = chosen(state.home(), disk("/", "nvme", 999 * GB), measure=nothing_is_measured)
    assert (again.home, again.reason, again.new) == (placed.home, placed.reason, False)


def test_a_decision_for_the_usual_place_is_kept_when_another_disk_comes(home: Home) -> None:
    placement.record(chosen(home, disk("/", "hdd", 500 * GB)))
    again = chosen(state.home(), disk("/", "hdd", 500 * GB), disk("/data", "nvme", 500 * GB))
    assert (again.home, again.new) == (home, False)


def test_a_disk_that_is_gone_is_said_and_nothing_is_begun_elsewhere(home: Home, tmp_path: Path) -> None:
    placed = moved_to(home, tmp_path / "data")
    placement.record(placed)
    placed.home.data.rmdir()
    with pytest.raises(SetupError, match="is not there") as caught:
        state.home()
    assert str(home.place) in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '{"data": 1}'])
def test_a_damaged_record_is_one_clear_error(home: Home, content: str) -> None:
    home.config.mkdir(parents=True)
    home.place.write_text(content, encoding="utf-8")
    with pytest.raises(SetupError, match="cannot be read"):
        state.home()


def test_the_recorded_rented_container_uses_its_data_disk(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = recorded("rtx-5090-rented", tmp_path, monkeypatch)
    placed = placement.choose(home, here.disks, NEEDED, environ={}, measure=not_measurable)
    assert placed.home.data.parent == Path("/srv/autodl-tmp")


def test_the_recorded_cluster_node_uses_its_scratch_disk(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = recorded("a100-80gb", tmp_path, monkeypatch)
    lying_on_nfs = replace(home, data=Path("/home/me/.local/share/i2v-setup"), cache=Path("/home/me/.cache/i2v-setup"))
    placed = placement.choose(lying_on_nfs, here.disks, NEEDED, environ={}, measure=not_measurable)
    assert placed.home.data.parent == Path("/scratch")
    assert "/home is slower (network)" in placed.reason


def test_uvs_cache_follows_the_environments_to_their_file_system(home: Home) -> None:
    root, data = (
        mounts.Mount("/", "8:1", "/", "ext4", "/dev/sda1"),
        mounts.Mount("/data", "8:2", "/", "ext4", "/dev/sda2"),
    )
    assert placement.uv_cache(home, [root, data]) is None
    moved = replace(home, data=Path("/data/i2v-setup"))
    assert placement.uv_cache(moved, [root, data]) == Path("/data/i2v-setup/uv-cache")


def test_where_the_user_put_uvs_cache_it_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", "/elsewhere")
    assert placement.uv_cache(replace(home, data=Path("/data")), [mounts.Mount("/", "8:1", "/", "ext4", "x")]) is None


def test_a_real_disk_that_is_full_is_left_for_one_that_has_the_room(home: Home, tmp_path: Path, lasting: Path) -> None:
    with (
        loop_disk(tmp_path / "small.img", Path.home(), 32),
        loop_disk(tmp_path / "large.img", lasting / "large", 96) as large,
    ):
        found = [one for one in disks.detect() if one.mount in {str(Path.home()), str(large)}]
        assert len(found) == 2
        placed = placement.choose(home, found, 48 * 2**20, environ={})
        placement.record(placed)
        assert placed.home.data.parent == large
        assert state.home() == placed.home
        assert placement.uv_cache(placed.home) == placed.home.data / "uv-cache"
        file = placed.home.data / "file"
        file.write_text("", encoding="utf-8")
        placed.home.cache.mkdir()
        (placed.home.cache / "linked").hardlink_to(file)
