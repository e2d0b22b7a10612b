from __future__ import annotations

from dataclasses import replace

import pytest

from bootstrap import machine, recommend, torch_builds
from bootstrap.errors import UsageProblem
from bootstrap.gpus import Gpu, Gpus
from bootstrap.machine import Machine
from bootstrap.pip_settings import PipSettings

GIB = 2**30
BARE = Machine(
    system="Linux",
    release="Debian",
    arch="x86_64",
    container=None,
    python="3.11.7",
    python_path="/usr/bin/python3",
    cpu="a CPU",
    cores=8,
    memory=32 * GIB,
    memory_free=30 * GIB,
    graphics=Gpus(),
    disks=(),
    tools=(),
    proxies=(),
    pip=PipSettings(),
)


def with_gpus(driver: str, *gpus: tuple[str, int, tuple[int, int]]) -> Machine:
    found = tuple(Gpu(name, "nvidia", memory * GIB, None, capability) for name, memory, capability in gpus)
    return replace(BARE, graphics=Gpus(found, driver, None, "test"))


@pytest.mark.parametrize(
    ("here", "build", "loud"),
    [
        (BARE, "cpu", False),
        (with_gpus("580.95.05", ("RTX 4090", 24, (8, 9))), "cu130", False),
        (with_gpus("580.65.06", ("H200", 141, (9, 0))), "cu130", False),
        (with_gpus("525.147.05", ("RTX 3060", 12, (8, 6))), "cpu", True),
        (with_gpus("580.95.05", ("V100", 32, (7, 0))), "cpu", True),
        (with_gpus("580.95.05", ("RTX 4090", 24, (8, 9)), ("GTX 1080 Ti", 11, (6, 1))), "cpu", True),
        (replace(BARE, graphics=Gpus((Gpu("RX 7900", "amd", 24 * GIB, None, None),))), "cpu", True),
        (replace(BARE, system="Darwin", arch="arm64"), "mps", False),
    ],
)
def test_driver_and_the_least_capable_gpu_decide_the_torch_build(here: Machine, build: str, loud: bool) -> None:
    pick = torch_builds.pick(here)
    assert (pick.build.id, pick.loud) == (build, loud)
    assert pick.reason


def test_the_reason_for_the_cpu_build_names_what_is_missing() -> None:
    assert "needs driver 580" in torch_builds.pick(with_gpus("525.147.05", ("RTX 3060", 12, (8, 6)))).reason


@pytest.mark.parametrize(("memory", "tier"), [(80, "40 GB"), (40, "40 GB"), (24, "24 GB"), (12, "12 GB"), (8, "small")])
def test_the_largest_gpu_decides_the_tier(memory: int, tier: str) -> None:
    here = with_gpus("580.95.05", ("small one", 6, (8, 6)), ("large one", memory, (8, 6)))
    assert recommend.recommend(here).tier.name == tier


def test_without_a_usable_gpu_the_smallest_tier_is_recommended() -> None:
    assert recommend.recommend(BARE).tier.name == "small"


def test_an_unknown_build_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageProblem) as caught:
        torch_builds.find("cu999")
    assert "cu130" in caught.value.hint


def test_this_machine_can_be_described() -> None:
    here = machine.detect()
    assert here.cores >= 1
    assert here.memory > here.memory_free > 0
    assert any(disk.free > 0 for disk in here.disks)
    assert next(tool for tool in here.tools if tool.name == "uv").found
