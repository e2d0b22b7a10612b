"""What the builds of torch have that the package index does not say: their own wheels, and what only they require.

Both are read from PyTorch's index. Where that cannot be reached, the wheels of the present lock are kept, and these
lists count, which are what the wheels of torch 2.13.0 say themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import requests
from packaging.requirements import Requirement
from pypi_simple import NoSuchProjectError

from bootstrap.locking import platforms as kept
from bootstrap.locking.index import Index, pytorch
from bootstrap.locking.text import Entry
from bootstrap.torch_builds import Platform, TorchBuild

_KNOWN = "2.13.0"
_CUDA = "cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]"
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "cu126": (
        f"{_CUDA}==12.6.3",
        "cuda-bindings>=12.9.4,<13",
        "nvidia-cudnn-cu12==9.10.2.21",
        "nvidia-cusparselt-cu12==0.7.1",
        "nvidia-nccl-cu12==2.29.3",
        "nvidia-nvshmem-cu12==3.4.5",
        "triton==3.7.1",
    ),
    "cu129": (
        f"{_CUDA}==12.9.1",
        "cuda-bindings>=12.9.4,<13",
        "nvidia-cudnn-cu12==9.20.0.48",
        "nvidia-cusparselt-cu12==0.8.1",
        "nvidia-nccl-cu12==2.29.7",
        "nvidia-nvshmem-cu12==3.4.5",
        "triton==3.7.1",
    ),
    "rocm7.2": ("triton-rocm==3.7.1",),
    "cpu": (),
}
_HERE_ONLY = ("torch", "triton-rocm")  # what only PyTorch's index has
UPSTREAM = "as the PyTorch index published them."


class Build:
    """A build of torch whose wheels only PyTorch's index has.

    Attributes:
        version: torch's, with the build: 2.13.0+cu126.
        wheels: as PyTorch's index publishes them, by project; None where it cannot be reached.
    """

    def __init__(self, build: TorchBuild, version: str, published: Index | None = None) -> None:
        self._build = build
        self.version = f"{version}+{build.id}"
        self._known = version == _KNOWN
        self._index = published or pytorch(build.id)
        self.wheels = self._published()

    def requires(self) -> tuple[str, ...] | None:
        """The packages that only this build requires, as lines; None where nobody knows."""
        if self.wheels is not None:
            return self._index.requires("torch", self.version)
        return _REQUIRED[self._build.id] if self._known else None

    def own(self, required: Sequence[str], named: Mapping[str, str]) -> list[Entry]:
        """The entries that only PyTorch's index has; with the wheels that the present lock names where it is silent."""
        lines = [f"torch=={self.version}", *(line for line in required if Requirement(line).name in _HERE_ONLY)]
        return [self._entry(Requirement(f"{line.partition(';')[0]} ; {self._marker()}"), named) for line in lines]

    def _entry(self, requirement: Requirement, named: Mapping[str, str]) -> Entry:
        version = next(iter(requirement.specifier)).version
        published = named if self.wheels is None else self.wheels.get(requirement.name, {})
        prefix = f"{requirement.name.replace('-', '_')}-{version}-"
        wheels = {
            name: sha256
            for name, sha256 in published.items()
            if name.startswith(prefix) and kept.fits(name, self._build.platforms)
        }
        return Entry(requirement, wheels)

    def _marker(self) -> str:
        machines = {platform.arch for platform in self._build.platforms}
        only = f" and platform_machine == '{machines.pop()}'" if len(machines) == 1 else ""
        return f"sys_platform == 'linux'{only}"

    def _published(self) -> dict[str, dict[str, str]] | None:
        names = [name for name in _HERE_ONLY if name == "torch" or self._build.id.startswith("rocm")]
        try:
            return {name: self._index.wheels(name) for name in names}
        except (requests.RequestException, NoSuchProjectError) as error:
            sys.stdout.write(f"{self._index.url} cannot be reached ({type(error).__name__})\n")
            return None


def from_index(requirement: str) -> bool:
    """Whether a required package is one of the package index."""
    return Requirement(requirement).name not in _HERE_ONLY


def platforms_of(builds: Sequence[TorchBuild], lock: str) -> list[Platform]:
    """All that a lock is for."""
    return [platform for build in builds if build.lock == lock for platform in build.platforms]
