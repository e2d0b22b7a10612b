"""The builds of PyTorch, one row each: where a build comes from, what it runs on, and how large it is.

Minimum drivers are NVIDIA's for each CUDA major version (https://docs.nvidia.com/deploy/cuda-compatibility/), as uv's
`--torch-backend` table has them. Compute capabilities are those that the published wheels of torch 2.13 carry code for
(.ci/manywheel/build_cuda.sh and RELEASE.md of PyTorch): CUDA 13 dropped Maxwell, Pascal and Volta, CUDA 12.6 has no
Blackwell, and wheels for aarch64 have what GPUs those machines can have. AMD's architectures are those that every
compute library in the ROCm wheel carries, and gfx1030, which lacks hipBLASLt only. There is no CUDA 12.8 build of 2.13.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap.errors import UsageProblem

Version = tuple[int, ...]
Capability = tuple[int, int]

_FOUR = ("3.11", "3.12", "3.13", "3.14")
_RADEON = ("gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1150", "gfx1151", "gfx1200", "gfx1201")
_INSTINCT = ("gfx90a", "gfx942", "gfx950")


@dataclass(frozen=True)
class Platform:
    """A kind of machine that a build has wheels for.

    Attributes:
        system: as `platform.system()` has it.
        arch: as `platform.machine()` has it.
        pythons: the Python versions that the lock has torch's hashes for, oldest first.
        code: the compute capabilities that torch's wheel carries machine code for.
        newest: the compute capability from which on the wheel carries code that the driver can compile for newer GPUs.
        targets: AMD's names of the architectures that it carries code for.
    """

    system: str
    arch: str
    pythons: tuple[str, ...] = _FOUR
    code: tuple[Capability, ...] = ()
    newest: Capability | None = None
    targets: frozenset[str] = frozenset()

    def runs(self, capability: Capability | None) -> bool:
        """Whether the build has code for such a GPU of NVIDIA; what is not known is taken for yes.

        Machine code runs on the same major version and any minor one that is not older.
        """
        if capability is None or (self.newest is not None and capability >= self.newest):
            return True
        return any(major == capability[0] and minor <= capability[1] for major, minor in self.code)


@dataclass(frozen=True)
class TorchBuild:
    """A build: what it needs, and the lock that it installs from.

    Attributes:
        platforms: what it is made for; the most usual first.
        sample: The package that mirrors are measured on: the largest one that the lock takes from the package index.
        index_bytes: Roughly what comes from the package index, torch included where that has it.
        torch_bytes: What comes from a PyTorch wheel index instead; 0 where the package index has torch.
        installed_bytes: Roughly what the environment takes on disk.
        min_driver: the oldest driver of NVIDIA's; None where it needs none.
    """

    id: str
    title: str
    lock: str
    platforms: tuple[Platform, ...]
    sample: str
    index_bytes: int
    installed_bytes: int
    torch_bytes: int = 0
    min_driver: Version | None = None

    @property
    def pythons(self) -> tuple[str, ...]:
        """The Python versions on the most usual platform."""
        return self.platforms[0].pythons

    def platform(self, system: str, arch: str) -> Platform | None:
        """What the build has for such a machine, if anything."""
        return next((found for found in self.platforms if (found.system, found.arch) == (system, arch)), None)

    def pythons_on(self, system: str, arch: str) -> tuple[str, ...]:
        """The Python versions that the lock has torch's hashes for on such a machine; none where it is not for it."""
        found = self.platform(system, arch)
        return found.pythons if found else ()


# Best first: of those that can use all GPUs, the first is taken.
BUILDS: tuple[TorchBuild, ...] = (
    TorchBuild(
        "cu130",
        "CUDA 13.0",
        "cu130.txt",
        (
            Platform("Linux", "x86_64", code=((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)), newest=(12, 0)),
            Platform("Linux", "aarch64", code=((8, 0), (9, 0), (10, 0), (11, 0), (12, 0)), newest=(12, 0)),
        ),
        sample="torch",
        index_bytes=2_840_000_000,
        installed_bytes=8_000_000_000,
        min_driver=(580,),
    ),
    TorchBuild(
        "cu126",
        "CUDA 12.6",
        "cu126.txt",
        (
            Platform("Linux", "x86_64", code=((5, 0), (6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0))),
            Platform("Linux", "aarch64", code=((8, 0), (9, 0))),
        ),
        sample="nvidia-cudnn-cu12",
        index_bytes=2_820_000_000,
        torch_bytes=850_000_000,
        installed_bytes=8_000_000_000,
        min_driver=(525, 60, 13),
    ),
    TorchBuild(
        "cu129",
        "CUDA 12.9",
        "cu129.txt",
        (
            Platform(
                "Linux",
                "x86_64",
                ("3.11", "3.12", "3.13"),
                code=((7, 0), (7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
            ),
            Platform("Linux", "aarch64", ("3.11",), code=((8, 0), (9, 0), (10, 0), (12, 0))),
        ),
        sample="nvidia-cudnn-cu12",
        index_bytes=3_350_000_000,
        torch_bytes=1_200_000_000,
        installed_bytes=9_500_000_000,
        min_driver=(525, 60, 13),
    ),
    TorchBuild(
        "rocm7.2",
        "ROCm 7.2",
        "rocm7.2.txt",
        (
            Platform(
                "Linux",
                "x86_64",
                targets=frozenset(_INSTINCT + _RADEON),
            ),
        ),
        sample="av",
        index_bytes=109_000_000,
        torch_bytes=6_500_000_000,
        installed_bytes=18_000_000_000,
    ),
    TorchBuild(
        "mps",
        "Apple Metal",
        "cu130.txt",
        (Platform("Darwin", "arm64"),),
        sample="torch",
        index_bytes=170_000_000,
        installed_bytes=1_000_000_000,
    ),
    TorchBuild(
        "cpu",
        "CPU only",
        "cpu.txt",
        (Platform("Linux", "x86_64"), Platform("Linux", "aarch64")),
        sample="av",
        index_bytes=109_000_000,
        torch_bytes=192_000_000,
        installed_bytes=1_100_000_000,
    ),
)


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
