"""What a machine is good for: the torch build, and the settings that its GPU memory allows."""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap import torch_builds
from bootstrap.machine import Machine
from bootstrap.torch_builds import Pick

_GIB = 2**30


@dataclass(frozen=True)
class Tier:
    """Settings that suit a GPU of at least `memory` bytes; `size` is the height of a square frame in pixels.

    Memory and settings are the field guide's that this project starts from; measured figures replace them at run time.
    """

    name: str
    memory: int
    size: int
    frames: int
    steps: int
    fps: int
    guidance: float


# A card sold as 12 GB reports a little less: the bounds leave 1 GiB for that.
TIERS: tuple[Tier, ...] = (
    Tier("40 GB", 39 * _GIB, 1024, 32, 80, 24, 11.0),
    Tier("24 GB", 22 * _GIB, 768, 24, 60, 12, 10.0),
    Tier("12 GB", 11 * _GIB, 512, 16, 40, 8, 9.0),
    Tier("small", 0, 256, 8, 30, 8, 9.0),
)


@dataclass(frozen=True)
class Recommendation:
    """What we would install, and what will run well."""

    torch: Pick
    tier: Tier
    reason: str


def recommend(machine: Machine) -> Recommendation:
    """The build and tier for the usable GPU with the most memory; without one the smallest tier."""
    torch = torch_builds.pick(machine)
    usable = [gpu for gpu in machine.gpus if gpu.usable]
    if torch.build.id == "cpu" or not usable:
        return Recommendation(torch, TIERS[-1], "no usable GPU: for trying out only")
    best = max(usable, key=lambda gpu: gpu.usable_memory)
    if not best.usable_memory:
        return Recommendation(torch, TIERS[-1], f"how much memory {best.name} has could not be told")
    tier = next(tier for tier in TIERS if best.usable_memory >= tier.memory)
    part = f"an instance of {best.name}" if best.mig else best.name
    return Recommendation(torch, tier, f"{part} has {best.usable_memory / _GIB:.0f} GiB")
