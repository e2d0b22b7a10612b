"""Which conda packages are taken, and whose word for their hashes: real channels on loopback mirrors, some evil."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from bootstrap import torch_builds
from bootstrap.backends import conda
from bootstrap.backends.conda import rattler
from bootstrap.backends.conda.trust import Lied
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.state import Home
from bootstrap.torch_builds import Pick
from mirrors.errors import NoMirror
from tests.bootstrap.conda_world import CPU, environment, home_in, know, locked
from tests.conda_channel import SUBDIR, Package, package, publish
from tests.mirrors.loopback import Fault, LoopbackMirror, until


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_in(tmp_path / "home")


@pytest.fixture
def mirrors() -> Iterator[tuple[LoopbackMirror, ...]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(LoopbackMirror()) for _ in range(3))


@pytest.fixture
def world(tmp_path: Path) -> list[Package]:
    """A channel's packages: an interpreter in name, a library in two versions, and a program that wants the first."""
    return [
        package(tmp_path / "good", "python", "3.11.9", build="0_cpython", subdir=SUBDIR),
        package(tmp_path / "good", "library", "1.0", suffix=".tar.bz2"),
        package(tmp_path / "good", "library", "2.0"),
        package(tmp_path / "good", "program", depends=["library >=1,<2", "python"]),
    ]


@pytest.fixture
def evil(tmp_path: Path) -> Package:
    """Another file under the library's name."""
    return package(tmp_path / "evil", "library", "1.0", files={"bin/evil": b"evil\n"}, suffix=".tar.bz2")


def evil_index(world: Sequence[Package], evil: Package) -> list[Package]:
    return [evil if it.filename == evil.filename else it for it in world]


def names(found: conda.Locked) -> set[str]:
    return {f"{it.name} {it.version}" for it in found.parts.packages}


def test_the_channel_itself_confirms_what_a_mirror_says_once_and_then_nobody_is_asked(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    for mirror in mirrors[:2]:
        publish(mirror, world)
    know(home, {"upstream": mirrors[0], "tuna": mirrors[1]})
    wanted = environment(tmp_path, "program")
    found = locked(home, conda.Wanted(wanted, CPU, conda.BUILT_IN, mirror="tuna"))
    assert names(found) == {"python 3.11.9", "library 1.0", "program 1.0"}
    assert {it.sha256 for it in found.parts.packages} == {world[0].sha256, world[1].sha256, world[3].sha256}
    assert [it.name for it in found.parts.packages][-1] == "program"  # dependencies first
    assert found.recipe.python.version == "3.11"
    assert found.notes == ("learnt the sha256 of 3 packages from upstream",)
    text = found.recipe.lock.path.read_text(encoding="utf-8")
    assert "127.0.0.1" not in text
    assert f"/conda-forge/noarch/library-1.0-0.tar.bz2#sha256:{world[1].sha256}\n" in text
    for mirror in mirrors:
        mirror.requests.clear()
    again = locked(home, wanted)
    assert (again.recipe, again.parts, again.notes) == (found.recipe, found.parts, ())
    assert [mirror.requests for mirror in mirrors] == [[], [], []]


def test_a_dry_run_solves_and_writes_nothing(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    know(home, {"upstream": mirrors[0]})
    found = locked(home, environment(tmp_path, "program"), keep=False)
    assert len(found.parts.packages) == 3
    assert not (home.config / "conda").exists()


def test_two_mirrors_of_different_people_are_believed_where_the_channel_cannot_be_reached(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    for mirror in mirrors[:2]:
        publish(mirror, world)
    know(home, {"tuna": mirrors[0], "ustc": mirrors[1]})
    found = locked(home, environment(tmp_path, "program"))
    assert len(found.parts.packages) == 3
    assert found.notes[0].startswith("learnt the sha256 of 3 packages from ")
    assert {"tuna", "ustc"} <= set(found.notes[0].replace(",", " ").split())


def test_one_mirror_alone_is_refused_unless_the_user_believes_it(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    know(home, {"tuna": mirrors[0]})
    wanted = environment(tmp_path, "program")
    with pytest.raises(SetupError, match="nobody but tuna says what the sha256 of") as refused:
        locked(home, wanted)
    assert "each refuses connections" in str(refused.value)
    assert "--no-hashes" in refused.value.hint
    assert not (home.config / "conda").exists()
    found = locked(home, conda.Wanted(wanted, CPU, conda.BUILT_IN, hashes=False))
    assert found.notes == ("only tuna vouches for 3 packages, which --no-hashes allows",)
    assert f"sha256:{world[1].sha256}" not in (home.config / "conda" / "learnt.txt").read_text(encoding="utf-8")
    with pytest.raises(SetupError, match="nobody but tuna"):  # what was taken on faith counts for nothing later
        locked(home, wanted)


@pytest.mark.parametrize("others", ["upstream", "two mirrors"])
def test_an_evil_package_with_its_hash_in_one_mirrors_index_is_never_taken(
    others: str,
    home: Home,
    mirrors: tuple[LoopbackMirror, ...],
    world: list[Package],
    evil: Package,
    tmp_path: Path,
) -> None:
    publish(mirrors[0], evil_index(world, evil))
    for mirror in mirrors[1:]:
        publish(mirror, world)
    known = {"tuna": mirrors[0], ("upstream" if others == "upstream" else "ustc"): mirrors[1], "nju": mirrors[2]}
    know(home, known)
    wanted = environment(tmp_path, "program")
    with pytest.raises(Lied, match=f"tuna lists another sha256 for {evil.filename} than"):
        locked(home, conda.Wanted(wanted, CPU, conda.BUILT_IN, mirror="tuna"))
    found = locked(home, wanted)
    assert {it.sha256 for it in found.parts.packages if it.name == "library"} == {world[1].sha256}


def test_no_hashes_does_not_make_a_false_index_good(
    home: Home,
    mirrors: tuple[LoopbackMirror, ...],
    world: list[Package],
    evil: Package,
    tmp_path: Path,
) -> None:
    publish(mirrors[0], evil_index(world, evil))
    publish(mirrors[1], world)
    know(home, {"tuna": mirrors[0], "upstream": mirrors[1]})
    with pytest.raises(Lied):
        locked(home, conda.Wanted(environment(tmp_path, "program"), CPU, conda.BUILT_IN, mirror="tuna", hashes=False))


def test_an_index_without_sha256_counts_for_nothing(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world, without=["sha256"])
    know(home, {"tuna": mirrors[0]})
    wanted = environment(tmp_path, "program")
    with pytest.raises(SetupError, match="nobody but tuna"):
        locked(home, wanted)
    with pytest.raises(SetupError, match="no index has a sha256 for"):
        locked(home, conda.Wanted(wanted, CPU, conda.BUILT_IN, hashes=False))
    publish(mirrors[1], world)
    know(home, {"tuna": mirrors[0], "upstream": mirrors[1]})
    found = locked(home, conda.Wanted(wanted, CPU, conda.BUILT_IN, mirror="tuna"))
    assert {it.sha256 for it in found.parts.packages if it.name == "library"} == {world[1].sha256}


def test_a_hash_that_was_learnt_is_checked_ever_after_whoever_says_otherwise(
    home: Home,
    mirrors: tuple[LoopbackMirror, ...],
    world: list[Package],
    evil: Package,
    tmp_path: Path,
) -> None:
    publish(mirrors[0], world)
    know(home, {"upstream": mirrors[0]})
    wanted = environment(tmp_path, "program")
    locked(home, wanted)
    publish(mirrors[0], evil_index(world, evil))
    with pytest.raises(Lied, match="than the lock"):
        locked(home, conda.Wanted(wanted, CPU, conda.BUILT_IN, upgrade=True))
    assert locked(home, wanted).parts.packages  # and the list that was kept still holds


def test_what_only_one_mirror_has_yet_waits_until_another_one_has_it(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    newer = package(tmp_path / "newer", "program", "2.0", depends=["library", "python"])
    publish(mirrors[0], [*world, newer])
    for mirror in mirrors[1:]:
        publish(mirror, world)
    know(home, {"tuna": mirrors[0], "ustc": mirrors[1], "nju": mirrors[2]})
    assert "program 1.0" in names(locked(home, environment(tmp_path, "program")))


@pytest.mark.parametrize(
    ("build", "driver", "expected"),
    [("cpu", None, "cpu"), ("cu130", "13.0", "cuda13"), ("cu126", "13.0", "cuda12"), ("cu130", None, "cuda13")],
)
def test_the_gpu_decides_which_build_the_channel_gives(
    build: str,
    driver: str | None,
    expected: str,
    home: Home,
    mirrors: tuple[LoopbackMirror, ...],
    world: list[Package],
    tmp_path: Path,
) -> None:
    builds = [
        package(tmp_path / "gpu", "pytorch", build="cpu_0"),
        package(tmp_path / "gpu", "pytorch", build="cuda12_0", depends=["__cuda >=12"], build_number=1),
        package(tmp_path / "gpu", "pytorch", build="cuda13_0", depends=["__cuda >=13"], build_number=2),
    ]
    publish(mirrors[0], [*world, *builds])
    know(home, {"upstream": mirrors[0]})
    pick = Pick(torch_builds.find(build), "a test")
    wanted = conda.Wanted(environment(tmp_path, "program", "pytorch"), pick, conda.BUILT_IN)
    found = locked(home, wanted, cuda=driver)
    assert [it.build for it in found.parts.packages if it.name == "pytorch"] == [f"{expected}_0"]


def test_a_gpu_that_the_channels_pytorch_does_not_use_is_said(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], [*world, package(tmp_path / "gpu", "pytorch", build="cpu_0")])
    know(home, {"upstream": mirrors[0]})
    pick = Pick(torch_builds.find("cu130"), "a test")
    wanted = conda.Wanted(environment(tmp_path, "python", "pytorch"), pick, conda.BUILT_IN)
    assert "which uses no GPU" in locked(home, wanted, cuda="13.0").notes[-1]


def test_what_cannot_be_solved_says_why(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    know(home, {"upstream": mirrors[0]})
    with pytest.raises(SetupError, match=r"library.*2") as failed:
        locked(home, environment(tmp_path, "program", "library=2.0"))
    assert failed.value.hint
    with pytest.raises(UsageProblem, match="an environment without Python"):
        locked(home, environment(tmp_path, "library"))


def test_a_channel_that_nobody_has_says_why_for_each(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    know(home, {"upstream": mirrors[0]})
    with pytest.raises(NoMirror, match=r"upstream has no index there \(HTTP 404\)") as failed:
        locked(home, environment(tmp_path, "program", channels=("no-such-channel",)))
    assert str(failed.value).count("refuses connections") == 1  # by all others; said once


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(portal=True),
        Fault(truncate=100),
        Fault(hang=True),
        Fault(redirect="http://127.0.0.1:9/"),
    ],
)
def test_a_mirror_whose_index_cannot_be_read_is_left_for_another(
    fault: Fault, home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    for mirror in mirrors[:2]:
        publish(mirror, world)
    mirrors[0].misbehave("*/noarch/repodata*", fault)  # not the one that is looked at first
    know(home, {"tuna": mirrors[0], "upstream": mirrors[1]})
    assert len(locked(home, environment(tmp_path, "program")).parts.packages) == 3


def test_a_file_name_that_leads_out_of_the_channel_is_refused(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    index = json.loads(mirrors[0].file("/conda-forge/noarch/repodata.json") or b"")
    rows = index["packages"]
    rows["../../../library-1.0-0.tar.bz2"] = rows.pop("library-1.0-0.tar.bz2")
    mirrors[0].serve("/conda-forge/noarch/repodata.json", json.dumps(index).encode())
    know(home, {"upstream": mirrors[0]})
    with pytest.raises(SetupError):
        locked(home, environment(tmp_path, "program"))


def test_a_solver_that_is_killed_ends_the_command_with_a_reason(
    mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    mirrors[0].misbehave("*/repodata*", Fault(hang=True))

    def kill() -> None:
        until(lambda: mirrors[0].requested("*/repodata*"))
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # one that has ended meanwhile
                if any("rattler_child" in part for part in child.cmdline()):
                    child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    request = {"channels": {"c": f"{mirrors[0].base}/conda-forge"}, "subdir": SUBDIR, "specs": ["python"]}
    with pytest.raises(rattler.Failed, match="ended with signal 9") as failed:
        rattler.ask("solve", {**request, "cache": str(tmp_path / "cache"), "sharded": False}, {})
    killer.join()
    assert failed.value.hint


def test_several_channels_go_by_their_order_and_one_may_be_an_address(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    own = package(tmp_path / "own", "library", "1.5", files={"share/own.txt": b"own\n"})
    publish(mirrors[0], world)
    publish(mirrors[1], [own], "label/mine")
    know(home, {"upstream": mirrors[0]})
    address = f"{mirrors[1].base}/label/mine"
    found = locked(home, environment(tmp_path, "program", channels=(address, "conda-forge")))
    (library,) = (it for it in found.parts.packages if it.name == "library")
    assert (library.channel, library.sha256) == (address, own.sha256)
    assert f"{address}/noarch/library-1.5-0.conda#sha256:" in found.recipe.lock.path.read_text(encoding="utf-8")
    assert {it.channel for it in locked(home, found.recipe.lock.path).parts.packages} == {address, "conda-forge"}


def test_an_index_in_small_parts_is_read_in_parts(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    indexed(tmp_path / "good")
    for path in (tmp_path / "good").rglob("*"):
        if path.is_file():
            mirrors[0].serve(f"/conda-forge/{path.relative_to(tmp_path / 'good').as_posix()}", path)
    know(home, {"upstream": mirrors[0]})
    assert len(locked(home, environment(tmp_path, "program")).parts.packages) == 3
    assert mirrors[0].requested("*/repodata_shards.msgpack.zst")
    read = {seen.path for seen in mirrors[0].requests if "range" not in seen.headers}  # looking asks for a beginning
    assert not any(path.endswith(("repodata.json", "repodata.json.zst")) for path in read)


def test_an_earlier_list_of_the_users_is_taken_as_it_is(home: Home, world: list[Package], tmp_path: Path) -> None:
    lines = [f"https://conda.anaconda.org/conda-forge/{it.subdir}/{it.filename}#{it.sha256}" for it in world]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(["@EXPLICIT", *lines]), encoding="utf-8")
    found = locked(home, path)
    assert [it.sha256 for it in found.parts.packages] == [it.sha256 for it in world]
    assert found.recipe.lock.path == path


def test_offline_takes_what_was_solved_before_and_nothing_else(
    home: Home, mirrors: tuple[LoopbackMirror, ...], world: list[Package], tmp_path: Path
) -> None:
    publish(mirrors[0], world)
    know(home, {"upstream": mirrors[0]})
    wanted = environment(tmp_path, "program")
    offline = conda.Wanted(wanted, CPU, conda.BUILT_IN, offline=True)
    with pytest.raises(SetupError, match="was not solved on this machine yet"):
        locked(home, offline)
    assert mirrors[0].requests == []
    found = locked(home, wanted)
    mirrors[0].requests.clear()
    assert locked(home, offline).parts == found.parts
    assert mirrors[0].requests == []


def indexed(directory: Path) -> None:
    """Let the real indexer write a channel's index. In a process of its own, whose end is not asked about."""
    code = "import asyncio, sys; from rattler.index import index_fs; asyncio.run(index_fs(sys.argv[1])); "
    code += "print('indexed', flush=True)"
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=False)
    assert "indexed" in done.stdout, done.stderr
