"""The steps of an environment of conda packages, and how they are done: fetched by us, put together by a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bootstrap import choices, generations, wheels
from bootstrap.backends.conda.build import Parts, build
from bootstrap.backends.conda.sources import ChannelSources, missing
from bootstrap.execute import Work, perform
from bootstrap.generations import Generation
from bootstrap.plan import Step, Supply, WriteConfigs
from bootstrap.room import Need
from bootstrap.state import Home
from mirrors.errors import MirrorError
from mirrors.fetch import Downloads
from mirrors.store import Store

if TYPE_CHECKING:
    from bootstrap.backends.conda import Locked

_UNPACKED = 4.0  # times the size of the files: measured on torch and its like


@dataclass(frozen=True)
class InstallConda(Step):
    """All packages of a list, into an environment that is not there yet."""

    parts: Parts
    sources: ChannelSources


def supply(home: Home, locked: Locked, sources: ChannelSources) -> Supply:
    """The packages of a list from the chosen channel mirrors."""
    return Supply(sources.label, partial(_steps, home, locked, sources))


def _steps(home: Home, locked: Locked, sources: ChannelSources, generation: Generation) -> Sequence[Step]:
    parts, recipe = locked.parts, locked.recipe
    lacking = sum(package.size or 0 for package in missing(parts.packages, Store(home.store)))
    unpacked = int(_UNPACKED * sum(package.size or 0 for package in parts.packages))
    needs = (Need(home.store, lacking, "packages"), Need(generation.path, unpacked, "the environment"))
    files = tuple(sources.config_files().items())
    detail = (
        f"{len(parts.packages)} packages from {sources.label} by {recipe.backend}, hash-locked ({recipe.lock.name})"
    )
    return [  # mamba takes no prefix that has something in it, so the configuration comes second
        InstallConda("packages", "install packages", detail, parts, sources, needs=needs),
        WriteConfigs("configs", "write configs", f"{', '.join(name for name, _ in files)} in the environment", files),
    ]


@perform.register
def _(step: InstallConda, work: Work) -> None:
    site, generation = work.site, work.plan.generation
    generations.begin(generation)
    _fetch(step, work)
    with site.recorder.phase("packages.link", f"unpack and link {len(step.parts.packages)} packages"):
        build(generation.path, step.parts, site.home, partial(_tell, work))


def _tell(work: Work, done: float, total: float, note: str) -> None:
    work.task.at(done, total)
    if note:
        work.task.say(note)


def _fetch(step: InstallConda, work: Work) -> None:
    """Everything into the store, from several mirrors at once, verified."""
    site, packages = work.site, step.parts.packages
    counting = work.task.counting(sum(package.size or 0 for package in packages))
    downloads = Downloads(Store(site.home.store), site.http, counting, step.sources.rates, step.sources.per_minute)
    try:
        with downloads:
            under_way = [downloads.want(package.artifact, step.sources.urls(package)) for package in packages]
            for download in under_way:
                download.result()
    except MirrorError:
        choices.forget(site.home)  # those that were chosen were not good enough
        raise
    finally:
        work.measured.bytes, work.measured.source = wheels.received([downloads.received])
        work.measured.sources = dict(downloads.received)
        site.recorder.fetched("packages", downloads)
        if downloads.dropped:
            told = (f"{host} {reason}" for host, reason in downloads.dropped.items())
            site.recorder.facts["dropped"] = "; ".join(told)
            choices.forget(site.home)
