"""Which GPUs a machine has, what they can do, who uses them, and why one cannot be used.

NVIDIA by NVML, else nvidia-smi, else the kernel (`nvidia`); AMD by the kernel's own files; Apple by its platform;
Intel's are named and left alone. Every probe is bounded in time, and a missing driver or tool is a fact, not an error.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bootstrap import bounded, containers
from bootstrap.gpus import amd, nvidia, others, visible
from bootstrap.gpus.facts import Gpu, Gpus, Instance, Process, Vendor

__all__ = ["Gpu", "Gpus", "Instance", "Process", "Vendor", "detect", "problems"]

_WSL_1 = "WSL 1 shows no GPU: move this distribution to WSL 2 (`wsl --set-version NAME 2`)"
PATIENCE = 5.0  # seconds for each probe; nvidia-smi takes up to 3 on a machine with eight sleeping GPUs


def detect(
    root: Path = Path("/"),
    *,
    container: str | None = None,
    system: str | None = None,
    arch: str | None = None,
    environ: Mapping[str, str] = os.environ,
    patience: float = PATIENCE,
) -> Gpus:
    """The GPUs of this machine.

    Args:
        root: where /proc, /sys and /dev are looked for.
        container: the kind of container that we are in (see `bootstrap.containers`).
        system: what `platform.system()` says, by default of this machine.
        arch: what `platform.machine()` says, by default of this machine.
        environ: where CUDA_VISIBLE_DEVICES is looked for.
        patience: seconds after which a probe is given up.
    """
    system, arch = system or platform.system(), arch or platform.machine()
    found = (
        nvidia.detect(root, container, patience),
        _amd(root, patience),
        others.intel(root),
        others.apple(system, arch, patience),
    )
    kinds = [part for part in found if part is not None]
    if not kinds:
        return Gpus(notes=(_WSL_1,) if containers.wsl(root) == 1 else ())
    gpus = visible.apply(kinds[0].gpus, environ) if kinds[0] is found[0] else kinds[0].gpus
    gpus += tuple(gpu for part in kinds[1:] for gpu in part.gpus)
    return Gpus(
        gpus,
        kinds[0].driver,
        kinds[0].cuda,
        ", ".join(part.source for part in kinds),
        next((part.rocm for part in kinds if part.rocm), None),
        (*(note for part in kinds for note in part.notes), *problems(gpus)),
    )


def _amd(root: Path, patience: float) -> Gpus | None:
    """To read how much memory an AMD GPU has left wakes it, and a broken one does not wake."""
    found = bounded.gather({"": partial(amd.detect, root)}, patience)
    return found.get("", Gpus(source="/sys/class/drm", notes=(f"AMD's driver did not answer within {patience:g} s",)))


def problems(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Why GPUs cannot be used, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for gpu in gpus:
        if gpu.problem is not None and gpu.vendor != "intel":
            by_reason.setdefault(gpu.problem, []).append(gpu.name)
    return tuple(f"{' and '.join(dict.fromkeys(names))}: {reason}" for reason, names in by_reason.items())
