"""Which build of PyTorch a machine gets. One row per build; a build without a shipped lock is not offered.

Minimum drivers are NVIDIA's for each CUDA major version (https://docs.nvidia.com/deploy/cuda-compatibility/), as uv's
`--torch-backend` table has them. Compute capabilities are those the published wheels carry code for
(https://github.com/pytorch/pytorch/blob/main/RELEASE.md): CUDA 13 dropped Maxwell, Pascal and Volta.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine

Version = tuple[int, ...]


@dataclass(frozen=True)
class TorchBuild:
    """A build: what it needs, and the lock that it installs from.

    Attributes:
        pythons: The Python versions that the lock has hashes for, oldest first.
        sample: The package that mirrors are measured on: the largest one that the lock takes from the package index.
        index_bytes: Roughly what comes from the package index, torch included where that has it.
        torch_bytes: What comes from a PyTorch wheel index instead; 0 where the package index has torch.
        installed_bytes: Roughly what the environment takes on disk.
    """

    id: str
    title: str
    lock: str
    pythons: tuple[str, ...]
    sample: str
    index_bytes: int
    installed_bytes: int
    torch_bytes: int = 0
    min_driver: Version | None = None
    min_capability: tuple[int, int] | None = None


BUILDS: tuple[TorchBuild, ...] = (
    TorchBuild(
        "cu130",
        "CUDA 13.0",
        "cu130.txt",
        ("3.11", "3.12", "3.13", "3.14"),
        sample="torch",
        index_bytes=3_060_000_000,
        installed_bytes=8_000_000_000,
        min_driver=(580,),
        min_capability=(7, 5),
    ),
    TorchBuild(
        "mps",
        "Apple Metal",
        "cu130.txt",
        ("3.11", "3.12", "3.13", "3.14"),
        sample="torch",
        index_bytes=170_000_000,
        installed_bytes=1_000_000_000,
    ),
    TorchBuild(
        "cpu",
        "CPU only",
        "cpu.txt",
        ("3.11", "3.12", "3.13"),
        sample="av",
        index_bytes=108_000_000,
        installed_bytes=1_100_000_000,
        torch_bytes=192_000_000,
    ),
)


@dataclass(frozen=True)
class Pick:
    """The build for a machine, and why. `loud`: the machine has a GPU that this build will not use."""

    build: TorchBuild
    reason: str
    loud: bool = False


def find(build_id: str) -> TorchBuild:
    """The row of that name.

    Raises:
        UsageProblem: there is none.
    """
    for build in BUILDS:
        if build.id == build_id:
            return build
    known = ", ".join(build.id for build in BUILDS)
    raise UsageProblem(f"there is no torch build {build_id!r}", f"choose auto or one of: {known}")


def pick(machine: Machine) -> Pick:
    """The best build for the machine: the driver and the least capable of its GPUs decide."""
    if machine.system == "Darwin":
        return Pick(find("mps"), "an Apple machine")
    cpu = find("cpu")
    nvidia = [gpu for gpu in machine.gpus if gpu.vendor == "nvidia"]
    if not nvidia:
        others = ", ".join(gpu.name for gpu in machine.gpus)
        return Pick(cpu, f"{others} is not supported yet", loud=True) if others else Pick(cpu, "no GPU found")
    driver = _version(machine.graphics.driver or "0")
    least = min((gpu.compute_capability or (0, 0) for gpu in nvidia), default=(0, 0))
    reasons = []
    for build in BUILDS:
        if build.min_driver is None or build.min_capability is None:
            continue
        if driver < build.min_driver:
            reasons.append(f"{build.id} needs driver {_text(build.min_driver)}, this one is {machine.graphics.driver}")
        elif least < build.min_capability:
            reasons.append(
                f"{build.id} needs compute capability {_text(build.min_capability)}, the least here is {_text(least)}"
            )
        else:
            return Pick(build, f"driver {machine.graphics.driver}, compute capability {_text(least)}")
    return Pick(cpu, "; ".join(reasons), loud=True)


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _text(version: Version) -> str:
    return ".".join(map(str, version))
