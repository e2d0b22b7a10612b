"""Which build a machine gets, and that the rows and the shipped locks say the same."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bootstrap import recipe, torch_builds
from bootstrap.errors import UsageProblem
from bootstrap.gpus import Gpu, Gpus
from bootstrap.locking.platforms import fits
from bootstrap.machine import Machine
from bootstrap.torch_builds import BUILDS, Platform, TorchBuild
from mirrors import lock as locks
from tests.bootstrap.test_recommend import BARE, GIB, with_gpus

PASCAL, BLACKWELL = ("GTX 1080 Ti", 11, (6, 1)), ("RTX 5090", 32, (12, 0))
AMPERE = ("RTX 3060", 12, (8, 6))


def with_amd(*targets: str | None) -> Machine:
    found = tuple(Gpu(f"AMD {target}", "amd", 16 * GIB, None, None, target=target) for target in targets)
    return replace(BARE, graphics=Gpus(found, source="test"))


def on_arm(here: Machine) -> Machine:
    return replace(here, arch="aarch64")


@pytest.mark.parametrize(
    ("here", "builds"),
    [
        (BARE, "cpu"),
        (with_gpus("580.95.05", ("RTX 4090", 24, (8, 9))), "cu130 cu126 cu129 cpu"),
        (with_gpus("580.65.06", ("H200", 141, (9, 0))), "cu130 cu126 cu129 cpu"),
        (with_gpus("579.99", AMPERE), "cu126 cu129 cpu"),
        (with_gpus("525.60.13", AMPERE), "cu126 cu129 cpu"),
        (with_gpus("525.60.12", AMPERE), "cpu"),
        (with_gpus("580.95.05", ("V100", 32, (7, 0))), "cu126 cu129 cpu"),
        (with_gpus("580.95.05", PASCAL), "cu126 cpu"),
        (with_gpus("535.183.01", ("GTX 980", 4, (5, 2))), "cu126 cpu"),
        (with_gpus("580.95.05", ("Tesla K80", 12, (3, 7))), "cpu"),
        (with_gpus("575.57.08", BLACKWELL), "cu129 cpu"),
        (with_gpus("570.86.10", ("B200", 180, (10, 0))), "cu129 cpu"),
        (with_gpus("580.95.05", BLACKWELL), "cu130 cu129 cpu"),
        (with_gpus("590.44", ("of tomorrow", 64, (13, 0))), "cu130 cpu"),
        (with_gpus("580.95.05", ("RTX 4090", 24, (8, 9)), PASCAL), "cu126 cu130 cu129 cpu"),
        (with_gpus("580.95.05", BLACKWELL, PASCAL), "cu130 cu129 cu126 cpu"),
        (on_arm(with_gpus("580.95.05", ("GB10", 119, (12, 1)))), "cu130 cu129 cpu"),
        (on_arm(with_gpus("550.54", ("GH200", 96, (9, 0)))), "cu126 cu129 cpu"),
        (on_arm(with_gpus("580.95.05", ("T4G", 16, (7, 5)))), "cpu"),
        (with_amd("gfx942", "gfx942"), "rocm7.2 cpu"),
        (with_amd("gfx906"), "cpu"),
        (with_amd(None), "cpu"),
        (on_arm(with_amd("gfx942")), "cpu"),
        (replace(BARE, system="Darwin", arch="arm64"), "mps"),
    ],
)
def test_driver_and_what_the_gpus_need_decide_the_torch_builds_best_first(here: Machine, builds: str) -> None:
    picks = torch_builds.picks(here)
    assert " ".join(pick.build.id for pick in picks) == builds
    assert all(pick.reason for pick in picks)
    assert torch_builds.pick(here) == picks[0]
    assert [pick.loud for pick in picks[:-1]] == [False] * (len(picks) - 1)
    assert picks[-1].loud == bool(here.gpus)


@pytest.mark.parametrize(
    ("here", "needed"),
    [
        (with_gpus("470.223.02", AMPERE), "update the NVIDIA driver to 580 or newer"),
        (with_gpus("470.223.02", PASCAL), "update the NVIDIA driver to 525.60.13 or newer"),
        (with_gpus("550.54.14", ("B200", 180, (10, 0)), PASCAL), "cannot use"),
    ],
)
def test_what_would_help_is_told(here: Machine, needed: str) -> None:
    (warning,) = torch_builds.picks(here)[-1].warnings
    if needed == "cannot use":
        assert "update" not in warning
    else:
        assert needed in warning
        assert "very slow" in warning


def test_a_gpu_that_the_best_build_leaves_out_is_told() -> None:
    best = torch_builds.pick(with_gpus("580.95.05", BLACKWELL, PASCAL))
    assert best.warnings == ("cu130 has no code for GTX 1080 Ti (compute capability 6.1)",)


def test_why_a_newer_build_was_passed_over_stands_in_the_reason() -> None:
    assert "cu130 needs driver 580, this one is 525.147.05" in torch_builds.pick(with_gpus("525.147.05", AMPERE)).reason


def test_gpus_that_cannot_be_used_count_for_nothing_but_the_warning() -> None:
    here = with_gpus("580.95.05", AMPERE, PASCAL)
    hidden = tuple(replace(gpu, problem="hidden") if gpu.name == PASCAL[0] else gpu for gpu in here.gpus)
    assert torch_builds.pick(replace(here, graphics=Gpus(hidden, "580.95.05"))).build.id == "cu130"
    none = tuple(replace(gpu, problem="hidden") for gpu in here.gpus)
    (pick,) = torch_builds.picks(replace(here, graphics=Gpus(none, "580.95.05")))
    assert pick.loud
    assert "hidden" in pick.warnings[0]


def test_a_gpu_of_unknown_capability_is_given_the_newest_build_that_its_driver_runs() -> None:
    here = with_gpus("580.95.05", ("RTX ?", 12, (0, 0)))
    unknown = tuple(replace(gpu, compute_capability=None) for gpu in here.gpus)
    pick = torch_builds.pick(replace(here, graphics=Gpus(unknown, "580.95.05")))
    assert pick.build.id == "cu130"
    assert "does not tell" in pick.reason


@pytest.mark.parametrize(
    ("here", "build", "warned"),
    [
        (with_gpus("580.95.05", AMPERE), "cu126", ""),
        (with_gpus("580.95.05", AMPERE), "cpu", ""),
        (with_gpus("580.95.05", PASCAL), "cu130", "no code for GTX 1080 Ti"),
        (with_gpus("535.183.01", AMPERE), "cu130", "needs driver 580"),
        (with_gpus("580.95.05", BLACKWELL, PASCAL), "cu126", "no code for RTX 5090"),
        (BARE, "cu130", "no GPU that cu130 is for was found"),
        (with_amd("gfx906"), "rocm7.2", "no code for AMD gfx906"),
    ],
)
def test_a_build_that_was_asked_for_is_taken_with_a_warning_where_it_cannot_run(
    here: Machine, build: str, warned: str
) -> None:
    pick = torch_builds.asked(here, build)
    assert pick.build.id == build
    assert bool(pick.warnings) == bool(warned)
    assert warned in "".join(pick.warnings)


@pytest.mark.parametrize(("system", "arch"), [("Darwin", "x86_64"), ("Linux", "riscv64"), ("Windows", "AMD64")])
def test_a_machine_that_no_build_is_for_is_not_told_to_choose_another_build(system: str, arch: str) -> None:
    here = replace(BARE, system=system, arch=arch)
    for pick in torch_builds.picks(here):
        with pytest.raises(UsageProblem, match=f"not for {system} on {arch}") as caught:
            recipe.python_for(here, pick.build, recipe.shipped_lock(pick.build))
        assert "--torch" not in caught.value.hint


def test_an_unknown_build_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageProblem) as caught:
        torch_builds.find("cu999")
    assert "cu130" in caught.value.hint


EVERY = [(build, platform) for build in BUILDS for platform in build.platforms]


@pytest.mark.parametrize(("build", "platform"), EVERY, ids=[f"{build.id}-{row.arch}" for build, row in EVERY])
def test_the_shipped_lock_has_a_wheel_of_every_package_for_every_python_of_a_row(
    build: TorchBuild, platform: Platform
) -> None:
    shipped = recipe.shipped_lock(build)
    machine = {"platform_system": platform.system, "sys_platform": platform.system.lower()}
    machine["platform_machine"] = platform.arch
    for python in platform.pythons:
        here = [replace(platform, pythons=(python,))]
        pins = {pin.name: pin for pin in shipped.pins(python, machine)}
        for pin in pins.values():
            assert {sha256 for _, sha256 in pin.names} == pin.sha256s, f"{pin.name} has hashes without names"
            assert any(fits(name, here) for name, _ in pin.names), f"{pin.name} has no wheel for Python {python}"
        learnt = {found.name for found in locks.to_learn(shipped.path, machine)}
        assert "torch" in pins.keys() | learnt
        assert build.sample in pins
        if build.torch_bytes and not learnt:
            assert pins["torch"].version.endswith(f"+{build.id}")


@pytest.mark.parametrize("name", sorted({build.lock for build in BUILDS}))
def test_locks_have_no_addresses_and_no_more_than_can_be_installed(name: str) -> None:
    build = next(build for build in BUILDS if build.lock == name)
    text = recipe.lock_of(build).read_text(encoding="utf-8")
    assert not re.search(r"https?://|\.(org|com|io)\b", text)
    assert not re.search(r"win_amd64|musllinux|cp310-cp310|\.tar\.gz", text)


def test_all_builds_have_the_same_versions_of_what_they_share() -> None:
    versions: dict[str, set[str]] = {}
    for build in BUILDS:
        for pin in recipe.shipped_lock(build).pins("3.12", {"sys_platform": "linux", "platform_machine": "x86_64"}):
            if not pin.name.startswith(("torch", "nvidia-", "cuda-")):
                versions.setdefault(pin.name, set()).add(pin.version)
    assert {name for name, found in versions.items() if len(found) > 1} == set()
