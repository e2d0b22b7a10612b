"""NVIDIA's GPUs as the kernel has them: /proc/driver/nvidia, and the PCI bus where no driver is loaded.

This is what is left when the driver's own tools are missing or hang. No memory is told here, and in a container it may
speak of GPUs that were not given to it: those have a `problem`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bootstrap.gpus import capabilities, pci
from bootstrap.gpus.facts import Gpu
from bootstrap.small_files import text

_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")
_NOT_GIVEN = "this container was not given it: start it with --gpus all, or in Kubernetes ask for nvidia.com/gpu"
_IN_BUILD = "no GPU is visible while an image is built: name the build with --torch"
_NO_DRIVER = "an NVIDIA GPU is there, its driver is not: install NVIDIA's driver, 580 or newer for the newest builds"
_OTHER_DRIVERS = {
    "nouveau": "the nouveau driver has it, which runs no CUDA: install NVIDIA's driver, and restart",
    "nova_core": "the nova driver has it, which runs no CUDA: install NVIDIA's driver, and restart",
    "vfio-pci": "it is set aside for virtual machines (vfio-pci)",
}


@dataclass(frozen=True)
class Traces:
    """What the kernel shows: the loaded driver's version, and whether programs have a way to it."""

    driver: str | None
    reachable: bool


def traces(root: Path) -> Traces:
    """The loaded NVIDIA driver and its device files (in WSL 2 Windows' driver, whose version is not told here)."""
    version = _VERSION.search(text(root / "proc/driver/nvidia/version"))
    driver = version[1] if version else text(root / "sys/module/nvidia/version") or None
    return Traces(driver, (root / "dev/nvidiactl").exists() or (root / "dev/dxg").exists())


def gpus(root: Path, container: str | None) -> tuple[Gpu, ...]:
    """The GPUs that the loaded driver has; without one, those that the bus shows."""
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    told = tuple(_informed(root, index, text(path), container) for index, path in enumerate(files))
    return told or tuple(_on_the_bus(root, device, container) for device in pci.devices(root, pci.NVIDIA))


def _informed(root: Path, index: int, information: str, container: str | None) -> Gpu:
    lines = (line.partition(":") for line in information.splitlines())
    facts = {key.strip(): value.strip() for key, _, value in lines}
    name, uuid = facts.get("Model") or "NVIDIA GPU", facts.get("GPU UUID", "")
    given = (root / f"dev/nvidia{facts.get('Device Minor', index)}").exists()
    return Gpu(
        name,
        "nvidia",
        0,
        None,
        capabilities.of(name),
        index=index,
        uuid=uuid if uuid.startswith("GPU-") and "?" not in uuid else None,
        bus=facts.get("Bus Location"),
        problem=None if given or container is None else _not_given(container),
    )


def _on_the_bus(root: Path, device: pci.Device, container: str | None) -> Gpu:
    name = pci.name(root, device)
    problem = _not_given(container) if container else _OTHER_DRIVERS.get(device.driver or "", _NO_DRIVER)
    return Gpu(name, "nvidia", 0, None, capabilities.of(name), bus=device.bus, problem=problem)


def _not_given(container: str) -> str:
    return _IN_BUILD if container.endswith("build") else _NOT_GIVEN
