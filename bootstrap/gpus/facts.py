"""What is known of GPUs: the types that all probes answer with. Memory in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Vendor = Literal["nvidia", "amd", "apple", "intel"]


@dataclass(frozen=True)
class Process:
    """A process that uses a GPU. In a container its number is the host's, and its name may not be seen."""

    pid: int
    name: str | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Instance:
    """A part of a GPU in MIG mode: its profile ("1g.10gb") and what memory it has."""

    profile: str
    memory: int
    free: int | None = None
    uuid: str | None = None


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: the product name, as the driver or the PCI list has it.
        vendor: who made it.
        memory: bytes; 0 where nobody told.
        free: bytes of it that nobody uses; None where nobody told.
        compute_capability: NVIDIA's (major, minor); None where it is not known.
        index: its place in the driver's order.
        uuid: the driver's name for this very board.
        bus: its PCI address, such as 0000:01:00.0.
        target: AMD's name of the architecture, such as gfx942.
        mig: whether it is cut into instances; programs see those, and each only one of them.
        instances: the instances, those that are visible to us.
        processes: who uses it, as far as it may be seen.
        problem: why it cannot be used; None if it can.
    """

    name: str
    vendor: Vendor
    memory: int
    free: int | None
    compute_capability: tuple[int, int] | None
    index: int | None = None
    uuid: str | None = None
    bus: str | None = None
    target: str | None = None
    mig: bool = False
    instances: tuple[Instance, ...] = ()
    processes: tuple[Process, ...] = ()
    problem: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a program that we start may use it."""
        return self.problem is None

    @property
    def usable_memory(self) -> int:
        """What one program can have of it: in MIG mode the least that an instance has, since CUDA takes one of them."""
        return min((part.memory for part in self.instances), default=0) if self.mig else self.memory


@dataclass(frozen=True)
class Gpus:
    """All GPUs, with NVIDIA's driver and the newest CUDA that it can run, or the version of ROCm.

    Attributes:
        gpus: usable or not; those of NVIDIA first.
        driver: NVIDIA's driver; None where it is not there, or was not told.
        cuda: the newest CUDA that the driver can run.
        source: who told.
        rocm: the version of AMD's ROCm, if it is installed.
        notes: what a person should know, each with what to do about it.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    source: str = "none found"
    rocm: str | None = None
    notes: tuple[str, ...] = ()
