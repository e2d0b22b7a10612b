"""Which GPUs a machine has: NVIDIA by NVML, else nvidia-smi; AMD by the kernel's own files; Apple by its platform.

Every probe is bounded in time, and a missing driver or tool is a fact, not an error.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootstrap import spawn

Vendor = Literal["nvidia", "amd", "apple"]
_SMI_FIELDS = "name,memory.total,memory.free,compute_cap,driver_version"
_AMD = "0x1002"  # PCI vendor id


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in bytes, `compute_capability` as (major, minor), None where unknown."""

    name: str
    vendor: Vendor
    memory: int
    free: int | None
    compute_capability: tuple[int, int] | None


@dataclass(frozen=True)
class Gpus:
    """All GPUs, with NVIDIA's driver and the newest CUDA that it can run."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    source: str = "none found"


def detect(root: Path = Path("/")) -> Gpus:
    """The GPUs of this machine. `root` is where /sys is looked for."""
    return _by_nvml() or _by_nvidia_smi() or _amd(root) or _apple() or Gpus()


def _by_nvml() -> Gpus | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return Gpus(
            tuple(_nvml_gpu(pynvml, handle) for handle in handles),
            str(pynvml.nvmlSystemGetDriverVersion()),
            f"{version // 1000}.{version % 1000 // 10}",
            "NVML",
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _nvml_gpu(nvml: object, handle: object) -> Gpu:
    call = nvml.__dict__
    memory = call["nvmlDeviceGetMemoryInfo"](handle)
    major, minor = call["nvmlDeviceGetCudaComputeCapability"](handle)
    return Gpu(str(call["nvmlDeviceGetName"](handle)), "nvidia", int(memory.total), int(memory.free), (major, minor))


def _by_nvidia_smi() -> Gpus | None:
    listing = spawn.probe(["nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"])
    if not listing:
        return None
    rows = [[field.strip() for field in line.split(",")] for line in listing.splitlines() if line.count(",") == 4]
    if not rows:
        return None
    gpus = tuple(
        Gpu(name, "nvidia", _mebibytes(total) or 0, _mebibytes(free), _capability(capability))
        for name, total, free, capability, _ in rows
    )
    header = spawn.probe(["nvidia-smi"]) or ""
    cuda = header.partition("CUDA Version:")[2].split()
    return Gpus(gpus, rows[0][4], cuda[0] if cuda else None, "nvidia-smi")


def _mebibytes(text: str) -> int | None:
    return int(text) * 2**20 if text.isdigit() else None  # "[N/A]" on some boards


def _capability(text: str) -> tuple[int, int] | None:
    major, dot, minor = text.partition(".")
    return (int(major), int(minor)) if dot and major.isdigit() and minor.isdigit() else None


def _amd(root: Path) -> Gpus | None:
    gpus = []
    for device in sorted((root / "sys/class/drm").glob("card[0-9]*/device")):
        if _text(device / "vendor") == _AMD and (total := _text(device / "mem_info_vram_total")).isdigit():
            used = _text(device / "mem_info_vram_used")
            free = int(total) - int(used) if used.isdigit() else None
            gpus.append(Gpu(_text(device / "product_name") or "AMD GPU", "amd", int(total), free, None))
    return Gpus(tuple(gpus), source="/sys/class/drm") if gpus else None


def _apple() -> Gpus | None:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return None
    import psutil

    memory = psutil.virtual_memory()  # shared between CPU and GPU
    return Gpus((Gpu("Apple GPU", "apple", memory.total, memory.available, None),), source="platform")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
