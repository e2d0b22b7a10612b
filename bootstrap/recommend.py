"""What a machine is good for: the torch build, the mirror and the settings that its GPU memory allows."""

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
    """The build and tier for the machine's largest GPU; without a GPU the smallest tier."""
    torch = torch_builds.pick(machine)
    if torch.build.id == "cpu" or not machine.gpus:
        return Recommendation(torch, TIERS[-1], "no usable GPU: for trying out only")
    best = max(machine.gpus, key=lambda gpu: gpu.memory)
    tier = next(tier for tier in TIERS if best.memory >= tier.memory)
    return Recommendation(torch, tier, f"{best.name} has {best.memory / _GIB:.0f} GiB")
