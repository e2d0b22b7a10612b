"""An installation as data: a tuple of steps, made from the machine, the mirror choice, the lock and the model.

Making a plan changes nothing and fetches nothing. `--dry-run` prints it, `execute` runs it, and the timing report is
the same steps with seconds and bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootstrap import generations, weights
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.generations import Generation
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.state import Home
from bootstrap.torch_builds import TorchBuild
from mirrors import lock
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Python:
    """The environment's Python: its version ("3.11"), and what to ask uv for (a path, or a version)."""

    version: str
    request: str


@dataclass(frozen=True)
class Step:
    """Something that will be done: `phase` names it in the report, `title` and `detail` tell a person."""

    phase: str
    title: str
    detail: str


@dataclass(frozen=True)
class CreateEnvironment(Step):
    """A new virtual environment."""

    python: str


@dataclass(frozen=True)
class WriteConfigs(Step):
    """The environment's own configuration files, by name."""

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class InstallPackages(Step):
    """All packages of the lock, for that version of Python."""

    pins: tuple[lock.Pin, ...]
    python: str


@dataclass(frozen=True)
class AddRuntime(Step):
    """Our own runtime folder."""


@dataclass(frozen=True)
class FetchWeights(Step):
    """The model's files, into the store and from there into the model's directory."""


@dataclass(frozen=True)
class Verify(Step):
    """Imports and a tiny generation, in the new environment."""


@dataclass(frozen=True)
class MakeCurrent(Step):
    """The symlink that says which environment is in use."""


@dataclass(frozen=True)
class Plan:
    """Everything that an install will do, in order."""

    generation: Generation
    model: ModelSpec
    sources: PackageSources | None
    room: int
    steps: tuple[Step, ...]


def python_for(machine: Machine, build: TorchBuild) -> Python:
    """The Python of the environment: the one that runs us, or else the newest that the lock has.

    Somebody who keeps torch's wheels in a local directory gets a Python that those are for.

    Raises:
        SetupError: the lock of this build is not made for this kind of machine.
    """
    if build.id == "cpu" and (machine.system, machine.arch) != ("Linux", "x86_64"):
        raise SetupError(f"there is no CPU lock for {machine.system} on {machine.arch} yet", "use Linux on x86_64")
    if (build.id == "mps") != (machine.system == "Darwin") and build.id != "cpu":
        raise UsageProblem(f"the torch build {build.id} is not for {machine.system}", "choose --torch auto")
    ours = ".".join(machine.python.split(".")[:2])
    preferred = sorted(build.pythons, key=lambda version: (version == ours, build.pythons.index(version)), reverse=True)
    local = (version for version in preferred if _has_torch(machine, build, version))
    version = next(local, preferred[0])
    return Python(version, sys.executable if version == ours else version)


def _has_torch(machine: Machine, build: TorchBuild, version: str) -> bool:
    torch = [pin for pin in pins(build, version) if pin.name == "torch"]
    return bool(lock.local_wheels(torch, machine.pip.find_link_directories(), version))


def pins(build: TorchBuild, python: str, platform: Mapping[str, str] | None = None) -> tuple[lock.Pin, ...]:
    """The lock's pins for that Python version on this machine, or where the markers of `platform` (PEP 508) hold."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", **(platform or {})}
    return lock.read(generations.lock_of(build), environment)


def make(
    home: Home,
    model: ModelSpec,
    build: TorchBuild,
    python: Python,
    sources: PackageSources | None,
    *,
    rebuild: bool = False,
) -> Plan:
    """The plan for a model on a torch build. `sources` may be None where the environment is there and is kept."""
    generation = generations.of(home, build, python.version)
    steps: list[Step] = []
    if rebuild or not generation.complete:
        if sources is None:
            raise SetupError("no package source was chosen for a new environment")
        steps += _environment_steps(generation, build, python, sources)
    if not weights.present(home, model):
        detail = f"{len(model.files)} files, {model.weight_bytes / 1e6:.1f} MB, every byte checked against its sha256"
        steps.append(FetchWeights("weights", f"fetch {model.id}", detail))
    if steps:
        steps.append(Verify("verify", "verify", "imports and a tiny generation in the new environment"))
    if steps or not _is_current(home, generation):
        steps.append(MakeCurrent("current", "make current", str(home.current)))
    return Plan(generation, model, sources, _room(steps, build, model), tuple(steps))


def _room(steps: Sequence[Step], build: TorchBuild, model: ModelSpec) -> int:
    """Bytes of disk that the steps take at most: packages as wheels and installed, weights once."""
    room = 0
    for step in steps:
        if isinstance(step, InstallPackages):
            room += build.index_bytes + build.torch_bytes + build.installed_bytes
        elif isinstance(step, FetchWeights):
            room += model.weight_bytes
    return room


def _environment_steps(
    generation: Generation, build: TorchBuild, python: Python, sources: PackageSources
) -> list[Step]:
    files = tuple(sources.config_files().items())
    named = ", ".join(name for name, _ in files)
    locked = pins(build, python.version)
    packages = f"{len(locked)} packages from {sources.label}: {build.title}, hash-locked"
    return [
        CreateEnvironment(
            "environment", "create environment", f"{generation.path} (Python {python.version})", python.request
        ),
        WriteConfigs("configs", "write configs", f"{named} in the environment", files),
        InstallPackages("packages", "install packages", packages, locked, python.version),
        AddRuntime("runtime", "add the runtime", f"{generation.app}"),
    ]


def _is_current(home: Home, generation: Generation) -> bool:
    return home.current.is_symlink() and home.current.resolve() == generation.path.resolve()
