"""Environments from conda's channels, by conda, mamba, micromamba or the built-in solver (py-rattler).

    lock            an environment.yml is solved once, its hashes confirmed, and its list kept  (solve, search, trust)
    choose_sources  mirrors are measured on a package that is needed                            (sources)
    steps.supply    packages are fetched by us into the store, and put together by a program    (steps, build)

Whoever solves and installs sees the same: records that were collected from mirrors, and files that were verified.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootstrap import recipe, spawn
from bootstrap.backends.conda import channels, environment, packages
from bootstrap.backends.conda.build import Parts, sweep
from bootstrap.backends.conda.family import Program
from bootstrap.backends.conda.search import Question
from bootstrap.backends.conda.solve import Manner, solved
from bootstrap.backends.conda.sources import ChannelSources, choose_sources, none_needed
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.machine import Machine
from bootstrap.recipe import Lock, Python, Recipe
from bootstrap.state import Home
from bootstrap.torch_builds import Pick
from mirrors.http import HttpSettings

__all__ = [
    "AUTO",
    "BACKENDS",
    "BUILT_IN",
    "ChannelSources",
    "Locked",
    "Parts",
    "Wanted",
    "choose_sources",
    "lock",
    "none_needed",
    "shipped",
    "sweep",
]

AUTO, BUILT_IN = "conda-family", "rattler"
_PROGRAMS = ("mamba", "micromamba", "conda")  # in the order that they are looked for: the fast ones first
BACKENDS = (AUTO, *_PROGRAMS, BUILT_IN)


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes:
        file: an environment.yml, or a list that pins packages.
        torch: which build of PyTorch: it says whether there is a GPU to be used, and which CUDA.
        backend: one of BACKENDS.
        mirror: "auto", or an id or URL.
        hashes: whether every sha256 must be confirmed by somebody other than one mirror.
        upgrade: solve anew, even if that was done before.
        offline: ask nobody: what was not solved before cannot be.
    """

    file: Path
    torch: Pick
    backend: str = AUTO
    mirror: str = "auto"
    hashes: bool = True
    upgrade: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Locked:
    """Exactly what an environment will be made of, and what a person should know of how that came about."""

    recipe: Recipe
    parts: Parts
    notes: tuple[str, ...]


def shipped() -> Path:
    """The environment.yml that comes with this tool."""
    here = Path(recipe.__file__).parent
    return next(path for path in (here / "environment.yml", here.parent / "environment.yml") if path.is_file())


def lock(
    wanted: Wanted,
    machine: Machine,
    http: HttpSettings,
    home: Home,
    *,
    keep: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Locked:
    """Find out which packages it will be: as the list says, as they were solved before, or by solving now.

    Args:
        wanted: what is asked for.
        machine: where it will run.
        http: how mirrors are asked.
        home: where lists are kept.
        keep: whether anything may be written.
        say: told what is being done.

    Raises:
        UsageProblem, SetupError: the file asks for something else, the program is not there, there is no solution, or
            none whose hashes can be believed.
        MirrorError: no mirror has the channel.
    """
    program, subdir = _program(wanted.backend), channels.subdir_of(machine)
    cuda = _cuda(wanted.torch, machine)
    notes: tuple[str, ...] = ()
    if packages.is_list(wanted.file):
        listed, made = packages.read(wanted.file, subdir), Lock.at(wanted.file)
    else:
        question = Question(environment.read(wanted.file), subdir, cuda, wanted.mirror, wanted.hashes)
        manner = Manner(wanted.upgrade, wanted.offline, keep)
        answer = solved(question, program, http, home, manner, say)
        listed, made, notes = answer.packages, answer.lock, answer.notes
    python = _python(listed, wanted.file)
    backend = program.name if program else BUILT_IN
    parts = Parts(listed, program, {"CONDA_OVERRIDE_CUDA": cuda or ""})
    return Locked(Recipe(wanted.torch.build, python, made, backend), parts, (*notes, *_slow(listed, cuda)))


def _program(backend: str) -> Program | None:
    """The program of that name; None: the built-in one.

    Raises:
        UsageProblem: there is no back end of that name.
        SetupError: it is not on this machine.
    """
    if backend not in BACKENDS:
        raise UsageProblem(f"there is no back end {backend!r}", f"choose uv or one of: {', '.join(BACKENDS)}")
    if backend == BUILT_IN:
        return None
    for name in _PROGRAMS if backend == AUTO else (backend,):
        if (path := shutil.which(name)) is not None:
            version = re.search(
                r"\d+(?:\.\d+)+", (spawn.probe([path, "--version"], 15.0) or "") if name == "mamba" else ""
            )
            return Program(name, path, version[0] if version else "")
    if backend == AUTO:
        return None
    raise SetupError(
        f"{backend} is not on this machine", f"install {backend}, or take --backend {BUILT_IN}, which is built in"
    )


def _cuda(torch: Pick, machine: Machine) -> str | None:
    """The CUDA that a solver may count on: the build's, but no more than the driver runs."""
    match = re.fullmatch(r"cu(\d+)(\d)", torch.build.id)
    if match is None:
        return None
    wanted, driver = (int(match[1]), int(match[2])), _version(machine.graphics.cuda)
    return ".".join(map(str, min(wanted, driver) if driver else wanted))


def _version(text: str | None) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", text or "")
    return (int(match[1]), int(match[2])) if match else None


def _python(listed: tuple[packages.CondaPackage, ...], path: Path) -> Python:
    version = next((package.version for package in listed if package.name == "python"), None)
    if version is None:
        raise UsageProblem(f"{path} gives an environment without Python", "add python to it, such as `- python=3.11`")
    minor = ".".join(version.split(".")[:2])
    return Python(minor, minor)


def _slow(listed: tuple[packages.CondaPackage, ...], cuda: str | None) -> tuple[str, ...]:
    """What to say where there is a GPU and the channel's PyTorch does not use it."""
    torch = next((package for package in listed if package.name == "pytorch"), None)
    if cuda is None or torch is None or "cuda" in torch.build:
        return ()
    return (f"the channel's PyTorch is {torch.filename}, which uses no GPU, and is very slow",)
