"""The steps of an environment that uv builds, and how they are done: an empty one, its configuration, its packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bootstrap import choices, generations, wheels
from bootstrap.backends import uv, uv_cache, uv_needs
from bootstrap.errors import SetupError
from bootstrap.execute import Work, perform
from bootstrap.generations import Generation
from bootstrap.packages import PackageSources
from bootstrap.plan import Step, Supply, WriteConfigs
from bootstrap.recipe import Recipe
from bootstrap.report import Timing
from bootstrap.room import Need
from bootstrap.state import Home
from mirrors import tags
from mirrors.errors import MirrorError
from mirrors.fetch import Downloads
from mirrors.lock import Pin
from mirrors.resolve import Wheel


@dataclass(frozen=True)
class CreateEnvironment(Step):
    """A new virtual environment."""

    python: str
    env: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class InstallPackages(Step):
    """All packages of the lock, for that version of Python. `env` is uv's."""

    pins: tuple[Pin, ...]
    python: str
    sources: PackageSources
    env: Mapping[str, str] = field(repr=False)


def supply(
    home: Home, recipe: Recipe, sources: PackageSources, env: Mapping[str, str], *, offline: bool = False
) -> Supply:
    """The packages of a lock from the chosen indexes, or from this machine. `env` is added to uv's environment."""
    label = "this machine" if offline else sources.label
    directories = [index.directory for index in sources.indexes if index.directory is not None]
    needs = uv_needs.needs(home, recipe, directories, uv_cache.directory(env), fetches=not offline)
    return Supply(label, partial(_steps, recipe, sources, {**sources.environ(), **env}, label, needs))


def _steps(
    recipe: Recipe,
    sources: PackageSources,
    env: Mapping[str, str],
    label: str,
    needs: tuple[Need, ...],
    generation: Generation,
) -> Sequence[Step]:
    files, pins, python = tuple(sources.config_files().items()), recipe.pins(), recipe.python
    named = ", ".join(name for name, _ in files)
    packages = f"{len(pins)} packages from {label}: {recipe.build.title}, hash-locked ({recipe.lock.name})"
    where = f"{generation.path} (Python {python.version})"
    return [
        CreateEnvironment("environment", "create environment", where, python.request, env),
        WriteConfigs("configs", "write configs", f"{named} in the environment", files),
        InstallPackages("packages", "install packages", packages, pins, python.version, sources, env, needs=needs),
    ]


@perform.register
def _(step: CreateEnvironment, work: Work) -> None:
    generations.begin(work.plan.generation)
    uv.create(work.plan.generation.path, step.python, step.env)


@perform.register
def _(step: InstallPackages, work: Work) -> None:
    site, found_tags = work.site, tags.supported(step.python)
    work.task.say("find the wheels")
    with site.recorder.phase("packages.resolve", f"find {len(step.pins)} wheels"):
        unpacked = uv_cache.unpacked(uv_cache.directory(step.env)) if site.offline else ()
        found = wheels.find(site.home, step.pins, found_tags, step.sources, site.http, unpacked)
    try:
        phases = _install(found, step, work)
    except MirrorError:
        choices.forget(site.home)  # those that were chosen were not good enough
        raise
    except SetupError:
        if not wheels.drop_damaged(site.home, found):
            raise
        phases = _install(found, step, work)
    wheels.learn(site.home, found_tags, found)
    for phase in phases:
        title = f"{phase.name} {phase.packages} package{'s' * (phase.packages != 1)}"
        started = site.recorder.at(phase.ended) - phase.seconds
        site.recorder.add(Timing(f"packages.{phase.name}", title, started, phase.seconds))


def _install(found: Sequence[Wheel], step: InstallPackages, work: Work) -> tuple[uv.Phase, ...]:
    """Fetch what uv asks for, and have it installed; what uv prints is about packages, what we tell is bytes."""
    counting = work.task.counting(wheels.size(found))
    downloads = wheels.downloads(work.site.home, step.sources, work.site.http, counting)
    try:
        with downloads:
            return uv.install(work.plan.generation.python_path, found, downloads, step.env, lambda _line: None)
    finally:
        _tell_of(downloads, work)


def _tell_of(downloads: Downloads, work: Work) -> None:
    """How many bytes came from whom, and who gave wrong ones."""
    received, work.measured.source = wheels.received([downloads.received])
    work.measured.bytes = received or None  # uv linked all of them from its cache
    work.measured.sources = dict(downloads.received)
    work.site.recorder.fetched("packages", downloads)
    if downloads.dropped:
        told = (f"{host} {reason}" for host, reason in downloads.dropped.items())
        work.site.recorder.facts["dropped"] = "; ".join(told)
        choices.forget(work.site.home)
