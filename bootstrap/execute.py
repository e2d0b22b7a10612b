"""Carries out a plan, step by step, timing each. The only place that knows how a step is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

from bootstrap import children, choices, disks, generations, weights, wheels
from bootstrap.backends import uv
from bootstrap.console import Console, Task
from bootstrap.errors import SetupError
from bootstrap.packages import PackageSources
from bootstrap.plan import (
    AddRuntime,
    CreateEnvironment,
    FetchWeights,
    InstallPackages,
    MakeCurrent,
    Plan,
    Step,
    Verify,
    WriteConfigs,
)
from bootstrap.report import Measured, Recorder, Timing
from bootstrap.state import Home, writable
from mirrors.errors import MirrorError
from mirrors.fetch import Downloads
from mirrors.http import HttpSettings
from mirrors.resolve import Wheel
from mirrors.tags import supported

_PRIVATE = 0o600


@dataclass(frozen=True)
class Site:
    """What all steps of a run have in common: the directories, the network settings, the recorder."""

    home: Home
    http: HttpSettings
    recorder: Recorder


@dataclass(frozen=True)
class Work:
    """One step's surroundings: the plan it is part of, the site, and where it tells how far it is."""

    plan: Plan
    site: Site
    task: Task
    measured: Measured


def execute(plan: Plan, site: Site, console: Console) -> None:
    """Do all steps in order. The environment becomes current in the last one; until then the old one stays in use.

    Raises:
        SetupError, MirrorError: a step failed; the steps after it were not begun.
    """
    writable(site.home.data)
    disks.require_room(site.home.data, plan.room, "this installation")
    for step in plan.steps:
        total = float(plan.model.weight_bytes) if isinstance(step, FetchWeights) else None
        with console.working(step.title, total) as task, site.recorder.phase(step.phase, step.title) as measured:
            perform(step, Work(plan, site, task, measured))


@singledispatch
def perform(step: Step, work: Work) -> None:
    """Do one step."""
    raise TypeError(f"no way to perform {step} of {work.plan}")


@perform.register
def _(step: CreateEnvironment, work: Work) -> None:
    assert work.plan.sources is not None
    generations.begin(work.plan.generation)
    uv.create(work.plan.generation.path, step.python, work.plan.sources.environ())


@perform.register
def _(step: WriteConfigs, work: Work) -> None:
    for name, text in step.files:
        path = work.plan.generation.path / name
        path.touch(mode=_PRIVATE)  # before anything is in it: an index URL may carry a password
        path.write_text(text, encoding="utf-8")


@perform.register
def _(step: InstallPackages, work: Work) -> None:
    sources, site = work.plan.sources, work.site
    assert sources is not None
    began = site.recorder.elapsed
    work.task.say("find the wheels")
    found = wheels.find(site.home, step.pins, supported(step.python), sources, site.http)
    site.recorder.add(Timing("packages.find", f"find {len(found)} wheels", began, site.recorder.elapsed - began))
    began = site.recorder.elapsed
    try:
        phases = _install(found, sources, work)
    except MirrorError:
        choices.forget(site.home)  # those that were chosen were not good enough
        raise
    except SetupError:
        if not wheels.drop_damaged(site.home, found):
            raise
        phases = _install(found, sources, work)
    wheels.learn(site.home, supported(step.python), found)
    for phase in phases:
        title = f"{phase.name} {phase.packages} packages"
        site.recorder.add(Timing(f"packages.{phase.name}", title, began, phase.seconds))
        began += phase.seconds


def _install(found: Sequence[Wheel], sources: PackageSources, work: Work) -> tuple[uv.Phase, ...]:
    """Fetch what uv asks for, and have it installed; what uv prints is about packages, what we tell is bytes."""
    downloads = wheels.downloads(work.site.home, sources, work.site.http, work.task.counting(wheels.size(found)))
    python = work.plan.generation.python_path
    try:
        with downloads:
            return uv.install(python, found, downloads, sources.environ(), lambda _line: None)
    finally:
        _tell_of(downloads, work)


def _tell_of(downloads: Downloads, work: Work) -> None:
    """How many bytes came from whom, and who gave wrong ones."""
    work.measured.bytes, work.measured.source = wheels.received([downloads.received])
    if downloads.dropped:
        told = (f"{host} {reason}" for host, reason in downloads.dropped.items())
        work.site.recorder.facts["dropped"] = "; ".join(told)
        choices.forget(work.site.home)


@perform.register
def _(_step: AddRuntime, work: Work) -> None:
    generations.add_runtime(work.plan.generation)


@perform.register
def _(_step: FetchWeights, work: Work) -> None:
    site, model = work.site, work.plan.model
    sources = weights.bring(site.home, model, site.http, on_bytes=work.task.counting(model.weight_bytes))
    work.measured.bytes, work.measured.source = model.weight_bytes, ", ".join(sources)


@perform.register
def _(_step: Verify, work: Work) -> None:
    plan = work.plan

    def tell(event: children.Event) -> None:
        if event["event"] == "phase":
            work.task.say(f"{event['name']} {float(event['seconds']):.1f} s")

    arguments = ["--model-id", plan.model.id, "--model-dir", str(weights.directory(work.site.home, plan.model))]
    child = children.Child(plan.generation, "runtime.check", arguments)
    children.run(child, work.site.recorder, on_event=tell, prefix="verify.")
    generations.finish(plan.generation)


@perform.register
def _(_step: MakeCurrent, work: Work) -> None:
    generations.make_current(work.site.home, work.plan.generation)
