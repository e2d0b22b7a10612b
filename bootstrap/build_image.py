"""The build-image command: a Docker image with the runtime and a model's weights in it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.request import getproxies

from bootstrap import machine, plan, report, torch_builds, weights
from bootstrap.console import Console
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.report import Deployment, Recorder, Timing
from bootstrap.sourcing import ca_bundle, choose_sources, http_settings
from bootstrap.state import Home
from bootstrap.torch_builds import Pick
from images import build as images
from images.spec import ImageSpec, Packages, PlannedStep
from mirrors import lock
from mirrors.http import HttpSettings
from mirrors.lock import Pin
from runtime import models

BASE_IMAGE = "python:3.11-slim-bookworm"
_PYTHON = "3.11"  # the base image's


@dataclass(frozen=True)
class Request:
    """What the user asked for; None stands for the default."""

    model: str
    tag: str | None = None
    base_image: str | None = None
    torch: str = "auto"
    mirror: str = "auto"


@dataclass(frozen=True)
class Prepared:
    """An image ready to be built, with what led to it."""

    spec: ImageSpec
    steps: tuple[PlannedStep, ...]
    http: HttpSettings
    recorder: Recorder


def prepare(request: Request, home: Home, console: Console) -> Prepared:
    """Choose the torch build and the package sources, and say what will be built. Changes nothing.

    Raises:
        UnknownModel, UnknownMirror, BadMirror, UsageProblem: there is no such model, mirror or torch build.
        NoMirror: none can serve the lock. ImageError: there is no lock for the build.
    """
    model = models.model(request.model)
    tag = request.tag or f"i2v-{model.id}:latest"
    recorder = Recorder("build-image", model=model.id, image=tag)
    with console.working("detect the machine"), recorder.phase("detect", "detect the machine"):
        here = machine.detect()
    torch = torch_builds.pick(here) if request.torch == "auto" else Pick(torch_builds.find(request.torch), "as asked")
    http = http_settings(here.pip)
    with console.working("choose a mirror"), recorder.phase("choose", "choose a mirror") as measured:
        sources = choose_sources(request.mirror, here, torch.build, _PYTHON, http, home.user_mirrors)
        measured.source = sources.name
    recorder.facts.update(torch=torch.build.id, mirror=sources.name)
    base = request.base_image or BASE_IMAGE
    packages = _packages(sources, here, plan.pins(torch.build, _PYTHON), http)
    spec = ImageSpec(tag, base, torch.build.id, model, weights.directory(home, model), packages)
    return Prepared(spec, images.plan(spec), http, recorder)


def build(prepared: Prepared, home: Home, console: Console) -> Deployment:
    """Fetch the weights if they are not here, and build; the timing report.

    Raises:
        MirrorError: the weights could not be had. ImageError: no engine, or the build failed.
    """
    spec, recorder = prepared.spec, prepared.recorder
    if not weights.present(home, spec.model):
        total = float(spec.model.weight_bytes)
        with console.working("fetch the weights", total) as task, recorder.phase("weights", "fetch the weights") as got:
            sources = weights.bring(home, spec.model, prepared.http, on_file=task.say, on_bytes=task.advance)
            got.bytes, got.source = spec.model.weight_bytes, ", ".join(sources)
    offset = recorder.elapsed
    with console.working(f"build {spec.tag}") as task:
        built = images.build(spec, task.say)
    for phase in built.phases:
        recorder.add(Timing(phase.name, phase.name, offset + phase.started, phase.seconds))
    recorder.facts.update(id=built.image_id, size=f"{built.size / 1e6:.0f} MB")
    return report.save(home, recorder.section())


def _packages(sources: PackageSources, here: Machine, pins: tuple[Pin, ...], http: HttpSettings) -> Packages:
    """The package sources as a build can use them: what lies on this machine's disk is handed over, not named."""
    return Packages(
        index_url=sources.index_url,
        extra_index_urls=tuple(url for url in sources.extra_index_urls if not url.startswith("file:")),
        find_links=tuple(link for link in sources.find_links if link.startswith(("https:", "http:"))),
        wheels=tuple(lock.local_wheels(pins, here.pip.find_link_directories(), _PYTHON).values()),
        ca_bundle=ca_bundle(here.pip),
        proxies=http.proxies or getproxies(),
    )
