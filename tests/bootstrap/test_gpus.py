from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import gpus, spawn

GIB = 2**30


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_nvidia_smi_is_read_where_nvml_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = (
        'case "$1" in --query-gpu*) printf "NVIDIA GeForce RTX 4090, 24564, 24000, 8.9, 580.95.05\\n'
        'NVIDIA GeForce GTX 1080 Ti, 11264, [N/A], 6.1, 580.95.05\\n" ;;'
        ' *) echo "| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0 |" ;; esac'
    )
    program(tmp_path, "nvidia-smi", answers)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = gpus.detect(tmp_path)
    if found.source == "NVML":
        pytest.skip("this machine has a real NVIDIA driver")
    assert (found.driver, found.cuda, found.source) == ("580.95.05", "13.0", "nvidia-smi")
    assert [gpu.compute_capability for gpu in found.gpus] == [(8, 9), (6, 1)]
    assert found.gpus[0].memory == 24564 * 2**20
    assert found.gpus[1].free is None


def test_a_tool_that_hangs_is_given_up(tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", "exec sleep 60")
    assert spawn.probe([str(tmp_path / "nvidia-smi")], timeout=0.3) is None


def test_amd_is_read_from_the_kernels_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    device = tmp_path / "sys/class/drm/card0/device"
    device.mkdir(parents=True)
    content = {"vendor": "0x1002", "mem_info_vram_total": str(24 * GIB), "mem_info_vram_used": str(GIB)}
    for name, text in content.items():
        (device / name).write_text(text + "\n", encoding="utf-8")
    found = gpus.detect(tmp_path)
    if found.source == "NVML":
        pytest.skip("this machine has a real NVIDIA driver")
    assert [(gpu.vendor, gpu.memory, gpu.free) for gpu in found.gpus] == [("amd", 24 * GIB, 23 * GIB)]


def test_no_gpu_is_a_fact_and_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = gpus.detect(tmp_path)
    assert found.gpus == () or found.source in {"NVML", "platform"}
