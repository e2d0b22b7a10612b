"""What an environment is made from, as data: the build of PyTorch, the Python, the back end and the lock.

Knows nothing of where the packages come from, nor of where the environment lies.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import runtime.models
from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine
from bootstrap.torch_builds import BUILDS, TorchBuild
from mirrors import lock as locks
from mirrors import tags
from mirrors.local import Shelf
from mirrors.lock import Pin

UV = "uv"  # the back end that is used where none is named


@dataclass(frozen=True)
class Python:
    """The environment's Python: its version ("3.11"), and what to ask for (a path, or a version)."""

    version: str
    request: str


@dataclass(frozen=True)
class Lock:
    """A file that pins all packages: its name for people, where it lies, and the sha256 of its bytes."""

    name: str
    path: Path
    sha256: str

    @classmethod
    def at(cls, path: Path) -> Lock:
        """The lock in that file."""
        return cls(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest())

    def pins(self, python: str, platform: Mapping[str, str] | None = None) -> tuple[Pin, ...]:
        """The pins for that Python version on this machine, or where the markers of `platform` (PEP 508) hold.

        Raises:
            MirrorError: a line is no pin with hashes.
        """
        environment = {"python_version": python, "python_full_version": f"{python}.0", **(platform or {})}
        return locks.read(self.path, environment)


@dataclass(frozen=True)
class Recipe:
    """All that decides what is in an environment."""

    build: TorchBuild
    python: Python
    lock: Lock
    backend: str = UV

    def pins(self) -> tuple[Pin, ...]:
        """The packages for this machine.

        Raises:
            MirrorError: the lock cannot be read.
        """
        return self.lock.pins(self.python.version)


def shipped_lock(build: TorchBuild) -> Lock:
    """The lock that comes with us for a build."""
    return Lock.at(lock_of(build))


def lock_of(build: TorchBuild) -> Path:
    """Where the shipped lock of a build lies."""
    return Path(runtime.models.__file__).parent / "locks" / build.lock


def python_for(machine: Machine, build: TorchBuild, lock: Lock, wanted: str | None = None) -> Python:
    """The Python of the environment: `wanted`, or the one that runs us, or else the newest that the lock has.

    Somebody who keeps torch's wheels in a local directory gets a Python that those are for.

    Raises:
        UsageProblem: the build is not made for this kind of machine, or not for the wanted version.
    """
    pythons = build.pythons_on(machine.system, machine.arch)
    if not pythons:
        made_for = " or ".join(f"{found.system} on {found.arch}" for found in build.platforms)
        raise UsageProblem(
            f"the torch build {build.id} is not for {machine.system} on {machine.arch}, but for {made_for}",
            "choose --torch auto"
            if any(row.platform(machine.system, machine.arch) for row in BUILDS)
            else "no build is made for such a machine: use another one",
        )
    ours = _minor(machine.python)
    if wanted is not None:
        if _minor(wanted) not in pythons:
            known = ", ".join(pythons)
            raise UsageProblem(f"the lock of {build.id} is not for Python {wanted}", f"choose --python from: {known}")
        return Python(_minor(wanted), sys.executable if wanted in (ours, machine.python) else wanted)
    preferred = sorted(pythons, key=lambda version: (version == ours, pythons.index(version)), reverse=True)
    version = next(_with_torch_here(machine, lock, preferred), preferred[0])
    return Python(version, sys.executable if version == ours else version)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _with_torch_here(machine: Machine, lock: Lock, pythons: Iterable[str]) -> Iterator[str]:
    """The Pythons for which torch's wheel lies in a local directory, by its name; its bytes are looked at later."""
    shelf = Shelf(machine.pip.find_link_directories())
    for version in pythons if shelf else ():
        torch = (pin for pin in lock.pins(version) if pin.name == "torch")
        if any(shelf.candidates(pin, tags.order(tags.supported(version))) for pin in torch):
            yield version
