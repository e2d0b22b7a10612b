"""Every recorded machine, read by the real detection: what it is, what its GPUs and disks are, and what it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bootstrap import install, machine_tables, torch_builds
from bootstrap.gpus import Gpu
from bootstrap.machine import Machine
from tests.bootstrap.machines import HERE, NAMES, recorded, told

MIB = 2**20
BOTH_WAYS = tuple(
    name for name in NAMES if {"nvml.json", "nvidia-smi.csv"} <= {p.name for p in (HERE / name).iterdir()}
)


def as_told(gpu: Gpu, expected: dict[str, Any]) -> dict[str, Any]:
    """What was found of a GPU, as far as machine.yaml speaks of it."""
    found: dict[str, Any] = {
        "name": gpu.name,
        "vendor": gpu.vendor,
        "memory_mib": gpu.memory // MIB,
        "free_mib": None if gpu.free is None else gpu.free // MIB,
        "capability": ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else None,
        "target": gpu.target,
        "instances": [{"profile": part.profile, "memory_mib": part.memory // MIB} for part in gpu.instances],
        "processes": [process.pid for process in gpu.processes],
        "problem": gpu.problem,
    }
    if expected.get("problem") is not None and gpu.problem is not None and expected["problem"] in gpu.problem:
        found["problem"] = expected["problem"]
    kept = expected.keys() | {"instances", "processes", "problem"}
    return {key: value for key, value in found.items() if key in kept}


def wanted(expected: dict[str, Any]) -> dict[str, Any]:
    return {"instances": [], "processes": [], "problem": None, **expected}


@pytest.fixture(scope="module", params=NAMES)
def detected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Machine]:
    """The name of a recorded machine, and what our detection makes of it."""
    name = str(request.param)
    with pytest.MonkeyPatch.context() as patch:
        return name, recorded(name, tmp_path_factory.mktemp(name), patch)


def test_a_recorded_machine_is_what_it_is(detected: tuple[str, Machine]) -> None:
    name, here = detected
    graphics, expected = here.graphics, told(name)["expected"]
    assert (graphics.source, graphics.driver, graphics.cuda, graphics.rocm, here.container) == (
        expected["source"],
        expected["driver"],
        expected["cuda"],
        expected.get("rocm"),
        expected["container"],
    )
    assert [as_told(gpu, row) for gpu, row in zip(here.gpus, expected["gpus"], strict=True)] == [
        wanted(row) for row in expected["gpus"]
    ]
    assert {disk.mount: disk.kind for disk in here.disks} == expected["disks"]
    for part, note in zip(expected["notes"], graphics.notes, strict=True):
        assert part in note


def test_a_recorded_machine_gets_the_right_torch_build(detected: tuple[str, Machine]) -> None:
    name, here = detected
    pick = torch_builds.pick(here)
    assert {"build": pick.build.id, "loud": pick.loud} == told(name)["torch"], pick.reason


def test_what_a_warning_says_of_a_gpu_is_not_said_again_as_a_note(detected: tuple[str, Machine]) -> None:
    _, here = detected
    warnings = torch_builds.pick(here).warnings
    told = [*warnings, *install.notes(here, warnings)]
    for note in here.graphics.notes:
        assert sum((note.partition(": ")[2] or note) in line for line in told) == 1


def test_a_recorded_machine_reads_well_on_a_narrow_terminal(detected: tuple[str, Machine]) -> None:
    _, here = detected
    terminal = Console(width=80)
    with terminal.capture() as capture:
        for table in machine_tables.tables(here):
            terminal.print(table)
    shown = capture.get()
    assert max(map(len, shown.splitlines())) <= 80
    words = [word for gpu in here.gpus for word in gpu.name.split()]
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_nvidia_smi_tells_the_same_as_nvml(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "by nvml").mkdir()
    by_nvml = recorded(name, tmp_path / "by nvml", monkeypatch).graphics
    (tmp_path / "by smi").mkdir()
    by_smi = recorded(name, tmp_path / "by smi", monkeypatch, nvml=False).graphics
    assert by_smi.source.startswith("nvidia-smi")
    assert (by_smi.driver, by_smi.cuda, by_smi.gpus) == (by_nvml.driver, by_nvml.cuda, by_nvml.gpus)


def test_there_are_machines_enough() -> None:
    assert len(NAMES) >= 12
