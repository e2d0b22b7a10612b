"""GPUs of those that are neither NVIDIA nor AMD: Apple's, and Intel's, which nothing here runs on."""

from __future__ import annotations

from pathlib import Path

from bootstrap import spawn
from bootstrap.gpus import pci
from bootstrap.gpus.facts import Gpu, Gpus

_NOT_SUPPORTED = "Intel's GPUs are not supported"


def apple(system: str, arch: str, patience: float) -> Gpus | None:
    """The GPU of an Apple chip, which has no memory of its own: it may take most of the machine's."""
    if (system, arch) != ("Darwin", "arm64"):
        return None
    told = spawn.probe(["sysctl", "-n", "machdep.cpu.brand_string", "hw.memsize"], patience)
    name, memory = (*(told or "").splitlines(), "", "")[:2]
    size = int(memory) if memory.isdigit() else 0
    return Gpus((Gpu(f"{name or 'Apple'} GPU", "apple", size, None, None),), source="sysctl" if told else "platform")


def intel(root: Path) -> Gpus | None:
    """Intel's GPUs, those in the processor too."""
    gpus = tuple(
        Gpu(pci.name(root, device), "intel", 0, None, None, bus=device.bus, problem=_NOT_SUPPORTED)
        for device in pci.devices(root, pci.INTEL)
    )
    return Gpus(gpus, source="the PCI bus") if gpus else None
