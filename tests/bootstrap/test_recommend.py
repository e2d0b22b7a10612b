from __future__ import annotations

from dataclasses import replace

import pytest

from bootstrap import machine, recommend
from bootstrap.gpus import Gpu, Gpus, Instance
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


@pytest.mark.parametrize(("memory", "tier"), [(80, "40 GB"), (40, "40 GB"), (24, "24 GB"), (12, "12 GB"), (8, "small")])
def test_the_largest_gpu_decides_the_tier(memory: int, tier: str) -> None:
    here = with_gpus("580.95.05", ("small one", 6, (8, 6)), ("large one", memory, (8, 6)))
    assert recommend.recommend(here).tier.name == tier


def test_without_a_usable_gpu_the_smallest_tier_is_recommended() -> None:
    assert recommend.recommend(BARE).tier.name == "small"


def test_what_cannot_be_used_recommends_nothing() -> None:
    cut = Gpu("A100", "nvidia", 80 * GIB, None, (8, 0), mig=True, instances=(Instance("1g.10gb", 10 * GIB),))
    hidden = Gpu("H200", "nvidia", 141 * GIB, None, (9, 0), problem="hidden")
    advice = recommend.recommend(replace(BARE, graphics=Gpus((cut, hidden), "580.95.05", None, "test")))
    assert advice.tier.name == "small"
    assert advice.reason == "an instance of A100 has 10 GiB"


def test_a_gpu_that_does_not_tell_its_memory_gets_the_smallest_tier() -> None:
    silent = Gpu("RTX 3090", "nvidia", 0, None, (8, 6))
    advice = recommend.recommend(replace(BARE, graphics=Gpus((silent,), "580.95.05", None, "test")))
    assert advice.tier.name == "small"
    assert "could not be told" in advice.reason


def test_this_machine_can_be_described() -> None:
    here = machine.detect()
    assert here.cores >= 1
    assert here.memory > here.memory_free > 0
    assert any(disk.free > 0 for disk in here.disks)
    assert next(tool for tool in here.tools if tool.name == "uv").found
