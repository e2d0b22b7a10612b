"""The install command: detect, choose, plan; then, once it was shown, execute and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bootstrap import alone, deployments, machine, placement, plan
from bootstrap.bundles import manifest
from bootstrap.bundles.manifest import Bundle
from bootstrap.choosing import Chooser, Chosen, picks
from bootstrap.console import Console
from bootstrap.execute import Site, execute
from bootstrap.placement import Placement
from bootstrap.plan import Plan, Wishes
from bootstrap.recorder import Recorder
from bootstrap.report import Deployment
from bootstrap.request import DEFAULT_MODEL, Request
from bootstrap.sourcing import http_settings
from bootstrap.state import Home
from bootstrap.torch_builds import TorchBuild
from runtime import models
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Prepared:
    """All that a plan is made from, and what the user should know before it is carried out."""

    model: ModelSpec
    chosen: Chosen
    wishes: Wishes
    site: Site
    placed: Placement
    warnings: tuple[str, ...]
    bundle: Bundle | None = None

    def plan(self) -> Plan:
        """The plan as things stand now: what another installation has done meanwhile is not done again."""
        first = []
        if self.bundle is not None:
            from bootstrap.bundles import taking

            first.append(taking.step(self.site.home, self.bundle))
        return plan.make(self.site.home, self.model, self.chosen.recipe, self.chosen.supply, self.wishes, first)


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
    request.require_sense()
    bundle = manifest.read(request.bundle) if request.bundle else None
    request = request.from_bundle(bundle) if bundle else request
    model = models.model(request.model or DEFAULT_MODEL)
    recorder = Recorder("install", model=model.id)
    with console.working("detect the machine"), recorder.phase("detect", "detect the machine"):
        here = machine.detect(with_tools=False)
    placed = placement.choose(home, here.disks, _amount(picks(request, here)[0].build, model))
    if placed.new:
        console.say(f"environments and files go below {placed.home.data}: {placed.reason}", "dim")
    http = http_settings(here.pip)
    chosen = Chooser(request, here, placed.home, http, console, recorder, keep, bundle).choose()
    if request.offline:
        _require_model_here(placed.home, model, bundle)
    recorder.facts.update(torch=chosen.torch.build.id, python=chosen.recipe.python.version)
    warnings = (*chosen.warnings, *notes(here, chosen.warnings), *_not_carried_over(here))
    site = Site(placed.home, http, recorder, console, request.offline)
    wishes = Wishes(request.rebuild, request.verify)
    return Prepared(model, chosen, wishes, site, placed, warnings, bundle)


def install(prepared: Prepared) -> Deployment:
    """Carry out the plan, one installation at a time; its timing report, or the last one where nothing was to do.

    Raises:
        SetupError, MirrorError: a step failed; what was current before still is.
    """
    site = prepared.site
    placement.record(prepared.placed)
    with alone.installing(site.home, site.console, site.recorder):
        with site.recorder.phase("plan", "make the plan"):
            made = prepared.plan()
        execute(made, site)
    last = deployments.find_last(site.home)
    if last is not None and not made.steps and last.model == prepared.model.id:
        return last
    return deployments.save(site.home, site.recorder.section())


def as_document(prepared: Prepared) -> dict[str, Any]:
    """The plan as data, for programs."""
    made, chosen = prepared.plan(), prepared.chosen
    return {
        "model": prepared.model.id,
        "torch": {"build": chosen.torch.build.id, "reason": chosen.torch.reason},
        "python": chosen.recipe.python.version,
        "backend": chosen.recipe.backend,
        "lock": {"name": chosen.recipe.lock.name, "sha256": chosen.recipe.lock.sha256},
        "mirror": chosen.supply.label if chosen.supply else None,
        "environment": str(made.generation.path),
        "placement": {
            "data": str(prepared.site.home.data),
            "cache": str(prepared.site.home.cache),
            "reason": prepared.placed.reason,
        },
        "warnings": prepared.warnings,
        "room": [{"path": str(need.path), "bytes": need.bytes, "what": need.what} for need in made.needs],
        "steps": [{key: asdict(step)[key] for key in ("phase", "title", "detail")} for step in made.steps],
    }


def _amount(build: TorchBuild, model: ModelSpec) -> int:
    """Bytes of disk that an installation takes, roughly."""
    return build.index_bytes + build.torch_bytes + build.installed_bytes + model.weight_bytes


def _require_model_here(home: Home, model: ModelSpec, bundle: Bundle | None) -> None:
    from bootstrap import offline

    if bundle is None:
        offline.require_model(home, model)
        return
    from bootstrap.bundles import taking

    offline.require_model(home, model, bundle.brings, taking.learnt(bundle, model))


def notes(here: machine.Machine, warnings: Sequence[str]) -> list[str]:
    """What is to be said of the GPUs, but for what a warning says of the same one: "NAME: REASON"."""
    return [
        note for note in here.graphics.notes if not any((note.partition(": ")[2] or note) in told for told in warnings)
    ]


def _not_carried_over(here: machine.Machine) -> list[str]:
    return [
        f"pip's trusted-host {host} is not carried over: certificates are checked" for host in here.pip.trusted_hosts
    ]
