from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import gpus
from bootstrap.gpus import Gpu, Gpus, Instance, Process, capabilities, visible
from tests.bootstrap.machines import HERE

GIB = 2**30


def program(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def found(root: Path, patience: float = 5.0) -> Gpus:
    return gpus.detect(root, system="Linux", arch="x86_64", environ={}, patience=patience)


def test_nvidia_smi_before_its_xml_could_be_read_is_read_by_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = (
        'case "$*" in --query-gpu*) printf "NVIDIA GeForce RTX 4090, GPU-a, 00000000:01:00.0, 24564, 24000, 8.9, 580.95'
        "\\n"
        'NVIDIA GeForce GTX 1080 Ti, GPU-b, 00000000:21:00.0, 11264, [N/A], [N/A], 580.95\\n" ;;'
        ' "-q -x") echo "<html>" ;;'
        ' *) echo "| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0 |" ;; esac'
    )
    program(tmp_path / "bin", "nvidia-smi", answers)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    here = found(tmp_path)
    assert (here.driver, here.cuda, here.source) == ("580.95", "13.0", "nvidia-smi")
    assert [gpu.compute_capability for gpu in here.gpus] == [(8, 9), (6, 1)]
    assert here.gpus[0].memory == 24564 * 2**20
    assert here.gpus[1].free is None
    assert here.gpus[1].bus == "0000:21:00.0"


def test_no_gpu_is_a_fact_and_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(tmp_path) == Gpus()


def test_an_nvidia_smi_that_prints_nonsense_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "nvidia-smi", "echo nonsense")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert found(tmp_path) == Gpus()


ODD = ("", "N/A", "[N/A]", "ERR!", "[Insufficient Permissions]", "[Unknown Error]", "²", "9" * 30, "-1")


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("form", ["csv", "xml"])
def test_a_field_that_says_nothing_is_a_fact_and_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, odd: str
) -> None:
    recorded = (HERE / "a100-80gb" / "nvidia-smi.xml").read_text(encoding="utf-8")
    said = ", ".join([odd] * 7) + "\n" if form == "csv" else re.sub(r">[^<>\n]+</", f">{odd}</", recorded)
    (tmp_path / form).write_text(said, encoding="utf-8")
    program(
        tmp_path / "bin",
        "nvidia-smi",
        f'case "$*" in --query-gpu*) exec cat {tmp_path}/csv ;; "-q -x") exec cat {tmp_path}/xml ;; esac; exit 2',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    here = found(tmp_path)
    assert here.source == "nvidia-smi"
    assert all(gpu.name for gpu in here.gpus)
    assert here.driver in {None, odd}


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("options", [(), ("-DOLDER",)], ids=["a new driver", "a driver before 510"])
def test_the_real_nvidia_ml_py_is_asked_as_it_wants_to_be(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, library = HERE / "library" / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", *options, "-o", str(library), str(source)], check=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(tmp_path) == Gpus(
        (
            Gpu(
                "NVIDIA A100-SXM4-80GB",
                "nvidia",
                80 * GIB,
                79 * GIB,
                (8, 0),
                index=0,
                uuid="GPU-9c73eb7b",
                bus="0000:0f:00.0",
                mig=True,
                instances=(Instance("1g.10gb", 10 * GIB, 9 * GIB, "MIG-53864714"),),
                processes=(Process(42, "/usr/bin/python3"),),  # not its arguments: they may hold a secret
            ),
        ),
        "580.95.05",
        "13.0",
        "NVML",
    )


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA GeForce RTX 5090", (12, 0)),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", (12, 0)),
        ("NVIDIA B200", (10, 0)),
        ("NVIDIA H100 80GB HBM3", (9, 0)),
        ("NVIDIA H20", (9, 0)),
        ("NVIDIA GH200 480GB", (9, 0)),
        ("NVIDIA L40S", (8, 9)),
        ("NVIDIA L4", (8, 9)),
        ("NVIDIA RTX 6000 Ada Generation", (8, 9)),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", (8, 9)),
        ("NVIDIA A100-SXM4-40GB", (8, 0)),
        ("NVIDIA A800 80GB PCIe", (8, 0)),
        ("NVIDIA A30", (8, 0)),
        ("NVIDIA A10G", (8, 6)),
        ("NVIDIA A40", (8, 6)),
        ("NVIDIA RTX A6000", (8, 6)),
        ("NVIDIA GeForce RTX 3060", (8, 6)),
        ("Tesla T4", (7, 5)),
        ("Quadro RTX 6000", (7, 5)),
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5)),
        ("NVIDIA GeForce GTX 1660 SUPER", (7, 5)),
        ("Tesla V100-SXM2-32GB", (7, 0)),
        ("NVIDIA TITAN V", (7, 0)),
        ("Tesla P100-PCIE-16GB", (6, 0)),
        ("NVIDIA GeForce GTX 1080 Ti", (6, 1)),
        ("Tesla P40", (6, 1)),
        ("NVIDIA GeForce GTX 980 Ti", (5, 2)),
        ("Tesla M60", (5, 2)),
        ("NVIDIA GPU (PCI 10de:2b85)", None),
    ],
)
def test_the_compute_capability_of_known_products(name: str, capability: tuple[int, int] | None) -> None:
    assert capabilities.of(name) == capability


OLD = Gpu("GTX 1080 Ti", "nvidia", 11 * GIB, None, (6, 1), uuid="GPU-c84e1d07")
NEW = Gpu("RTX 4090", "nvidia", 24 * GIB, None, (8, 9), uuid="GPU-0d5b7a93")
CUT = Gpu(
    "A100",
    "nvidia",
    80 * GIB,
    None,
    (8, 0),
    uuid="GPU-295b72d2",
    mig=True,
    instances=(Instance("3g.40gb", 40 * GIB, None, "MIG-a"), Instance("1g.10gb", 10 * GIB, None, "MIG-b")),
)


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, ["GTX 1080 Ti", "RTX 4090"]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ["RTX 4090"]),  # CUDA counts from the fastest
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, ["GTX 1080 Ti"]),
        ({"CUDA_VISIBLE_DEVICES": "1, 0"}, ["GTX 1080 Ti", "RTX 4090"]),
        ({"CUDA_VISIBLE_DEVICES": "0,7,1"}, ["RTX 4090"]),  # nothing after the first that is not there
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, []),
        ({"CUDA_VISIBLE_DEVICES": "GPU-c84e"}, ["GTX 1080 Ti"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-"}, []),  # fits more than one
    ],
)
def test_what_cuda_will_show(environ: dict[str, str], shown: list[str]) -> None:
    seen = visible.apply([OLD, NEW], environ)
    assert [gpu.name for gpu in seen if gpu.usable] == shown
    assert all("CUDA_VISIBLE_DEVICES" in (gpu.problem or "") for gpu in seen if not gpu.usable)


def test_of_a_gpu_in_mig_mode_only_the_named_instance_counts() -> None:
    assert CUT.usable_memory == 10 * GIB  # the least: which one CUDA takes is not ours to say
    (seen,) = visible.apply([CUT], {"CUDA_VISIBLE_DEVICES": "MIG-a"})
    assert (seen.usable, seen.usable_memory) == (True, 40 * GIB)
    (seen,) = visible.apply([CUT], {"CUDA_VISIBLE_DEVICES": "MIG-nonesuch"})
    assert not seen.usable


def test_a_reason_is_told_once_for_all_gpus_that_share_it() -> None:
    three = [replace(OLD, problem="it is broken"), replace(OLD, problem="it is broken"), NEW]
    assert gpus.problems(three) == ("GTX 1080 Ti: it is broken",)
