"""The install command: detect, choose, plan; then, once it was shown, execute and report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from filelock import FileLock, Timeout

from bootstrap import generations, machine, plan, report, torch_builds
from bootstrap.console import Console
from bootstrap.execute import Site, execute
from bootstrap.packages import PackageSources
from bootstrap.plan import Plan
from bootstrap.report import Deployment, Recorder
from bootstrap.sourcing import candidates, choose_sources, http_settings
from bootstrap.state import Home, writable
from bootstrap.torch_builds import Pick
from runtime import models
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    model: str
    mirror: str = "auto"
    torch: str = "auto"
    rebuild: bool = False


@dataclass(frozen=True)
class Prepared:
    """All that a plan is made from, and what the user should know before it is carried out."""

    model: ModelSpec
    torch: Pick
    python: plan.Python
    sources: PackageSources | None
    rebuild: bool
    site: Site
    warnings: tuple[str, ...]

    def plan(self) -> Plan:
        """The plan as things stand now: what another installation has done meanwhile is not done again."""
        return plan.make(self.site.home, self.model, self.torch.build, self.python, self.sources, rebuild=self.rebuild)


def prepare(request: Request, home: Home, console: Console, *, keep: bool = True) -> Prepared:
    """Find out what the machine is and where the packages come from.

    Args:
        request: what is wanted.
        home: where the tool keeps its things.
        console: the voice.
        keep: put the bytes that mirrors were measured with into the store, since they are wanted; else nothing changes.

    Raises:
        UnknownModel, UnknownMirror, BadMirror, UsageProblem: there is no such model, mirror or torch build.
        NoMirror: none can serve the lock.
    """
    model = models.model(request.model)
    recorder = Recorder("install", model=model.id)
    with console.working("detect the machine"), recorder.phase("detect", "detect the machine"):
        here = machine.detect()
    torch = torch_builds.pick(here) if request.torch == "auto" else Pick(torch_builds.find(request.torch), "as asked")
    python = plan.python_for(here, torch.build)
    http = http_settings(here.pip)
    recorder.facts.update(torch=torch.build.id, python=python.version)
    sources = None
    if request.rebuild or not generations.of(home, torch.build, python.version).complete:
        with console.working("choose a mirror"), recorder.phase("choose", "choose a mirror") as measured:
            sources = choose_sources(request.mirror, here, torch.build, python.version, http, home, keep=keep)
            measured.source = sources.name
        console.say(sources.reason, "dim")
        recorder.facts["mirror"] = sources.name
    elif request.mirror != "auto":
        candidates(request.mirror, here.pip, home.user_mirrors)  # a wrong name is told even where none is needed
    warnings = [f"{torch.reason}: the CPU build is used, which is very slow"] if torch.loud else []
    warnings += [
        f"pip's trusted-host {host} is not carried over: certificates are checked" for host in here.pip.trusted_hosts
    ]
    return Prepared(model, torch, python, sources, request.rebuild, Site(home, http, recorder), tuple(warnings))


def install(prepared: Prepared, console: Console) -> Deployment:
    """Carry out the plan, one installation at a time; its timing report, or the last one where nothing was to do.

    Raises:
        SetupError, MirrorError: a step failed; what was current before still is.
    """
    site = prepared.site
    with _alone(site.home, console):
        made = prepared.plan()
        execute(made, site, console)
    last = report.find_last(site.home)
    if last is not None and not made.steps and last.model == prepared.model.id:
        return last
    return report.save(site.home, site.recorder.section())


def as_document(prepared: Prepared) -> dict[str, Any]:
    """The plan as data, for programs."""
    made = prepared.plan()
    return {
        "model": prepared.model.id,
        "torch": {"build": prepared.torch.build.id, "reason": prepared.torch.reason},
        "python": prepared.python.version,
        "mirror": prepared.sources.label if prepared.sources else None,
        "environment": str(made.generation.path),
        "warnings": prepared.warnings,
        "steps": [{key: asdict(step)[key] for key in ("phase", "title", "detail")} for step in made.steps],
    }


@contextmanager
def _alone(home: Home, console: Console) -> Iterator[None]:
    lock = FileLock(writable(home.data) / ".install.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.say("another installation is under way; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
