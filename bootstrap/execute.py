"""Carries out a plan, step by step, timing each. How the steps of a back end are done stands with that back end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from bootstrap import current, generations, leftovers, room, weights
from bootstrap.console import Console, Task
from bootstrap.plan import AddRuntime, FetchWeights, LearnHashes, MakeCurrent, Plan, Step, Verify, WriteConfigs
from bootstrap.recorder import Measured, Recorder
from bootstrap.state import Home
from bootstrap.verify import verify
from mirrors.http import HttpSettings

_PRIVATE = 0o600


@dataclass(frozen=True)
class Site:
    """What all steps of a run have in common: the directories, the network settings, the recorder, the voice."""

    home: Home
    http: HttpSettings
    recorder: Recorder
    console: Console
    offline: bool = False


@dataclass(frozen=True)
class Work:
    """One step's surroundings: the plan it is part of, the site, and where it tells how far it is."""

    plan: Plan
    site: Site
    task: Task
    measured: Measured


def execute(plan: Plan, site: Site) -> None:
    """Do all steps in order. The environment becomes current in the last one; until then the old one stays in use.

    Raises:
        SetupError, MirrorError: a step failed; the steps after it were not begun.
    """
    leftovers.sweep(site.home)
    room.require(plan.needs, "this installation")
    try:
        for step in plan.steps:
            _do(step, plan, site)
    except BaseException:
        generations.give_up(plan.generation)
        leftovers.sweep_uv(site.home)  # the disk may be full, and uv leaves what it was unpacking
        raise
    if plan.steps:
        with site.recorder.phase("sweep", "remove what is replaced"):
            leftovers.sweep(site.home)


def _do(step: Step, plan: Plan, site: Site) -> None:
    total = float(plan.model.weight_bytes) if isinstance(step, FetchWeights) else None
    with (
        room.running_full(step.title),
        site.console.working(step.title, total) as task,
        site.recorder.phase(step.phase, step.title) as measured,
    ):
        perform(step, Work(plan, site, task, measured))


@singledispatch
def perform(step: Step, work: Work) -> None:
    """Do one step."""
    raise TypeError(f"no way to perform {step} of {work.plan}")


@perform.register
def _(step: WriteConfigs, work: Work) -> None:
    for name, text in step.files:
        path = work.plan.generation.path / name
        path.touch(mode=_PRIVATE)  # before anything is in it: an index URL may carry a password
        path.write_text(text, encoding="utf-8")


@perform.register
def _(_step: AddRuntime, work: Work) -> None:
    generations.add_runtime(work.plan.generation)
    generations.add_lock(work.plan.generation, work.plan.recipe)


@perform.register
def _(_step: LearnHashes, work: Work) -> None:
    weights.learn(work.site.home, work.plan.model, work.site.http, work.site.console.say)


@perform.register
def _(_step: FetchWeights, work: Work) -> None:
    site, model = work.site, work.plan.model
    brought = weights.bring(
        site.home,
        model,
        site.http,
        on_bytes=work.task.counting(model.weight_bytes),
        offline=site.offline,
        say=site.console.say,
        recorder=site.recorder,
    )
    work.measured.bytes, work.measured.source = sum(brought.per_source.values()), ", ".join(brought.sources)
    work.measured.sources = dict(brought.per_source)


@perform.register
def _(step: Verify, work: Work) -> None:
    site, plan = work.site, work.plan
    verify(plan.generation, site.home, plan.model, site.recorder, work.task, step.depth)
    work.task.say("wait for the disk")
    generations.finish(plan.generation)


@perform.register
def _(_step: MakeCurrent, work: Work) -> None:
    current.make_current(work.site.home, work.plan.generation)
