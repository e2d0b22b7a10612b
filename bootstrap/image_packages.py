"""What an image is built from: the torch build, and the wheels of its lock and where they come from.

An image that nothing is built for (weights alone, or put into an image that is there) has none, and nobody is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.tags import Tag

from bootstrap import machine, recipe, torch_builds, upstreams, wheels
from bootstrap.console import Console
from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources, directories
from bootstrap.recipe import Python, Recipe
from bootstrap.recorder import Recorder
from bootstrap.sourcing import candidates, choose_sources
from bootstrap.state import Home
from bootstrap.torch_builds import Pick, TorchBuild
from images.inputs import shipped_recipe
from mirrors import lock
from mirrors.http import HttpSettings
from mirrors.lock import Pin
from mirrors.resolve import Wheel
from mirrors.tags import manylinux, supported

_PYTHON = "3.11"  # the base image's
_GLIBC = 28  # 2.28: the oldest that torch's wheels run on, so that older bases do as well


@dataclass(frozen=True)
class Packages:
    """The torch build by its id, and its wheels; `sources` is None where all of them are here already."""

    torch_build: str = ""
    wheels: tuple[Wheel, ...] = ()
    tags: tuple[Tag, ...] = ()
    sources: PackageSources | None = None

    @property
    def size(self) -> int:
        """Bytes of all wheels, as far as that is known."""
        return sum(wheel.artifact.size or wheel.told or 0 for wheel in self.wheels)

    def paths(self, home: Home) -> Mapping[str, Path]:
        """Where the wheels lie, or will lie, by their file names."""
        return wheels.paths(home, self.wheels)


def find(
    torch: str, mirror: str, http: HttpSettings, home: Home, console: Console, recorder: Recorder, *, keep: bool
) -> Packages:
    """Choose the torch build and find its wheels. Asks no mirror where all of them are here.

    Args:
        torch: a build's id, or "auto".
        mirror: as the user names it.
        http: how to ask.
        home: where wheels are kept.
        console: told of what takes its time, and of warnings.
        recorder: gets the phases.
        keep: whether the bytes that mirrors are measured with go into the store.

    Raises:
        UnknownMirror, BadMirror, UsageProblem: there is no such mirror or torch build.
        NoMirror: none can serve the lock.
    """
    with console.working("detect the machine"), recorder.phase("detect", "detect the machine"):
        here = machine.detect()
    pick = _torch(torch, here)
    for warning in pick.warnings:
        console.warn(warning)
    arch = {"arm64": "aarch64"}.get(here.arch, here.arch)  # as Linux says it
    made_from = Recipe(pick.build, Python(_PYTHON, _PYTHON), recipe.shipped_lock(pick.build))
    pins, tags = _pins(pick.build, arch), supported(_PYTHON, manylinux(arch, _GLIBC))
    sources, found = None, wheels.at_hand(home, pins, tags, directories(here.pip))
    if found is None:
        with console.working("choose a mirror"), recorder.phase("choose", "choose a mirror") as measured:
            sources = choose_sources(mirror, here, made_from, http, home, keep=keep)
            measured.source = sources.name
            measured.bytes, measured.sources = upstreams.asked(sources.choices)
        recorder.chose("wheels", *sources.choices)
        with console.working("find the wheels"), recorder.phase("find", "find the wheels"):
            found = wheels.find(home, pins, tags, sources, http)
        recorder.facts.update(mirror=sources.name)
    elif mirror != "auto":
        candidates(mirror, here.pip, home.user_mirrors)  # a wrong name is told even where none is needed
    recorder.facts.update(torch=pick.build.id)
    return Packages(pick.build.id, found, tags, sources)


def bring(packages: Packages, http: HttpSettings, home: Home, console: Console, recorder: Recorder) -> None:
    """Fetch the wheels that are not here.

    Raises:
        MirrorError: one could not be had.
    """
    if packages.sources is None:
        return
    total = float(wheels.size(packages.wheels))
    with console.working("fetch the wheels", total) as task, recorder.phase("wheels", "fetch the wheels") as got:
        count = task.counting(int(total))
        fetched = wheels.bring(home, packages.wheels, packages.sources, http, count, recorder)
        wheels.learn(home, packages.tags, packages.wheels)
        got.bytes, got.source = wheels.received(one.per_source for one in fetched)


def _torch(asked: str, here: Machine) -> Pick:
    """The build of PyTorch in the image: one whose hashes are shipped, since an image is built from the shipped lock.

    Raises:
        UsageProblem: there is no such build, or its hashes are learnt on the machine that uses it.
    """
    if asked == "auto":
        linux = replace(here, system="Linux")  # whatever this machine is
        return next(pick for pick in torch_builds.picks(linux) if not lock.to_learn(recipe.lock_of(pick.build)))
    build = torch_builds.find(asked)  # it may be for another machine than this one
    if lock.to_learn(recipe.lock_of(build)):
        reason = f"an image cannot have {build.title}: its hashes are learnt on the machine that uses it"
        raise UsageProblem(reason, "choose another build with --torch")
    return Pick(build, "as asked")


def _pins(build: TorchBuild, arch: str) -> tuple[Pin, ...]:
    """What is locked for the image: the environment's packages, and the installer that builds it."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": arch}
    return (
        *recipe.shipped_lock(build).pins(_PYTHON, linux),
        *lock.read(shipped_recipe().context / "images" / "uv.txt"),
    )
