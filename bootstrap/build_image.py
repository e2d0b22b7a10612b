"""The build-image command: a Docker image with the runtime and a model's weights in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from packaging.tags import Tag

from bootstrap import deployments, machine, recipe, torch_builds, upstreams, weights, wheels
from bootstrap.console import Console
from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources, directories
from bootstrap.recipe import Python, Recipe
from bootstrap.recorder import Recorder
from bootstrap.report import Deployment, Timing
from bootstrap.sourcing import candidates, choose_sources, http_settings
from bootstrap.state import Home, writable
from bootstrap.torch_builds import Pick, TorchBuild
from images import build as images
from images import references
from images.errors import ImageError
from images.inputs import shipped_recipe
from images.spec import Built, Destination, ImageSpec, PlannedStep, Weights
from mirrors import lock
from mirrors.http import HttpSettings
from mirrors.lock import Pin
from mirrors.resolve import Wheel
from mirrors.tags import manylinux, supported
from runtime import models
from runtime.models import ModelSpec

BASE_IMAGE = "python:3.11-slim-bookworm"
_PYTHON = "3.11"  # the base image's
_GLIBC = 28  # 2.28: the oldest that torch's wheels run on, so that older bases do as well


@dataclass(frozen=True)
class Request:
    """What the user asked for; None stands for the default."""

    model: str
    tag: str | None = None
    base_image: str | None = None
    torch: str = "auto"
    mirror: str = "auto"
    weights: Weights = "baked"
    weights_on_top: bool = False
    push: str | None = None
    output: Path | None = None
    pull_rate: float = 1000.0


@dataclass(frozen=True)
class Prepared:
    """An image ready to be built, with what led to it."""

    spec: ImageSpec
    destination: Destination
    steps: tuple[PlannedStep, ...]
    wheels: tuple[Wheel, ...]
    tags: tuple[Tag, ...]
    sources: PackageSources | None
    http: HttpSettings
    recorder: Recorder
    pull_rate: float


def prepare(request: Request, home: Home, console: Console, *, keep: bool = True) -> Prepared:
    """Choose the torch build, find the wheels, and say what will be built. Asks no mirror where all wheels are here.

    Unless `keep` is off, the bytes that mirrors were measured with go into the store.

    Raises:
        UnknownModel, UnknownMirror, BadMirror, UsageProblem: there is no such model, mirror or torch build.
        NoMirror: none can serve the lock. ImageError: there is no lock for the build.
    """
    if request.weights_on_top and request.weights != "baked":
        raise UsageProblem("--weights-on-top goes with baked weights", "leave out one of the two")
    if request.push is not None:
        references.parse(request.push)  # a wrong name is told before anything is done
    model = models.model(request.model)
    tag = request.tag or f"i2v-{model.id}:latest"
    recorder = Recorder("build-image", model=model.id, image=tag)
    with console.working("detect the machine"), recorder.phase("detect", "detect the machine"):
        here = machine.detect()
    torch = _torch(request, here)
    for warning in torch.warnings:
        console.warn(warning)
    http = http_settings(here.pip)
    arch = {"arm64": "aarch64"}.get(here.arch, here.arch)  # as Linux says it
    made_from = Recipe(torch.build, Python(_PYTHON, _PYTHON), recipe.shipped_lock(torch.build))
    pins, tags = _pins(torch.build, arch), supported(_PYTHON, manylinux(arch, _GLIBC))
    sources, found = None, wheels.at_hand(home, pins, tags, directories(here.pip))
    if found is None:
        with console.working("choose a mirror"), recorder.phase("choose", "choose a mirror") as measured:
            sources = choose_sources(request.mirror, here, made_from, http, home, keep=keep)
            measured.source = sources.name
            measured.bytes, measured.sources = upstreams.asked(sources.choices)
        recorder.chose("wheels", *sources.choices)
        with console.working("find the wheels"), recorder.phase("find", "find the wheels"):
            found = wheels.find(home, pins, tags, sources, http)
        recorder.facts.update(mirror=sources.name)
    elif request.mirror != "auto":
        candidates(request.mirror, here.pip, home.user_mirrors)  # a wrong name is told even where none is needed
    recorder.facts.update(torch=torch.build.id)
    base = request.base_image or BASE_IMAGE
    known, paths = weights.known(home, model), wheels.paths(home, found)
    spec = ImageSpec(tag, base, torch.build.id, known, home.models, paths, request.weights, request.weights_on_top)
    destination = Destination(request.push, request.output)
    wheel_bytes = sum(wheel.artifact.size or wheel.told or 0 for wheel in found)
    steps = images.plan(spec, destination=destination, wheel_bytes=wheel_bytes)
    return Prepared(spec, destination, steps, found, tags, sources, http, recorder, request.pull_rate)


def build(prepared: Prepared, home: Home, console: Console) -> Deployment:
    """Fetch the weights if they are not here, and build; the timing report.

    Raises:
        MirrorError: the weights could not be had. ImageError: no engine, or the build failed.
    """
    spec, recorder = prepared.spec, prepared.recorder
    if spec.weights != "volume":
        images.require_engine()
    if prepared.sources is not None and spec.weights != "volume":
        total = float(wheels.size(prepared.wheels))
        with console.working("fetch the wheels", total) as task, recorder.phase("wheels", "fetch the wheels") as got:
            count = task.counting(int(total))
            fetched = wheels.bring(home, prepared.wheels, prepared.sources, prepared.http, count, recorder)
            wheels.learn(home, prepared.tags, prepared.wheels)
            got.bytes, got.source = wheels.received(one.per_source for one in fetched)
    if spec.weights != "mounted":
        model = _bring_model(prepared, home, console)
        spec = replace(spec, model=model, model_dir=weights.directory(home, model))
    offset = recorder.elapsed
    with console.working(f"build {spec.tag}") as task, recorder.phase("build", f"build {spec.tag}"):
        try:
            built = images.build(
                spec,
                task.say,
                destination=prepared.destination,
                scratch=writable(home.cache),
                http=prepared.http,
            )
        except ImageError as error:
            if wheels.drop_damaged(home, prepared.wheels):
                raise ImageError(f"{error} (a stored wheel was damaged)", "build again: it is fetched again") from error
            raise
    for phase in built.phases:
        busy = phase.busy if phase.busy < phase.seconds else None
        started = offset + phase.started
        recorder.add(Timing(f"build.{phase.name}", phase.name, started, phase.seconds, busy=busy))
    recorder.facts.update(id=built.image_id, size=f"{built.size / 1e6:.0f} MB", **_layers(built, prepared.pull_rate))
    return deployments.save(home, recorder.section())


def _layers(built: Built, pull_rate: float) -> dict[str, str]:
    """What of the layers was there already, and how long a machine that has none of them will pull."""
    facts = {"pull": f"{built.size * 8 / pull_rate / 1e6:.0f} s at {pull_rate:g} Mbit/s, where nothing is there yet"}
    if built.layers:
        reused = [layer for layer in built.layers if layer.reused]
        size = sum(layer.size for layer in reused)
        facts["reused"] = f"{len(reused)} of {len(built.layers)} layers, {size / 1e6:.0f} MB"
    return facts


def _bring_model(prepared: Prepared, home: Home, console: Console) -> ModelSpec:
    """The model with the sha256 of every file; its files are here afterwards."""
    model, recorder = models.model(prepared.spec.model.id), prepared.recorder
    if weights.present(home, model):
        return weights.known(home, model)
    console.say(weights.told(home, model), "dim")
    total = float(prepared.spec.model.weight_bytes)
    with console.working("fetch the weights", total) as task, recorder.phase("weights", "fetch the weights") as got:
        count = task.counting(int(total))
        brought = weights.bring(home, model, prepared.http, on_bytes=count, say=console.say, recorder=recorder)
        got.bytes, got.source = sum(brought.per_source.values()), ", ".join(brought.sources)
        got.sources = dict(brought.per_source)
    return brought.model


def _torch(request: Request, here: Machine) -> Pick:
    """The build of PyTorch in the image: one whose hashes are shipped, since an image is built from the shipped lock.

    Raises:
        UsageProblem: there is no such build, or its hashes are learnt on the machine that uses it.
    """
    if request.torch == "auto":
        linux = replace(here, system="Linux")  # whatever this machine is
        return next(pick for pick in torch_builds.picks(linux) if not lock.to_learn(recipe.lock_of(pick.build)))
    asked = Pick(torch_builds.find(request.torch), "as asked")  # it may be for another machine than this one
    if lock.to_learn(recipe.lock_of(asked.build)):
        reason = f"an image cannot have {asked.build.title}: its hashes are learnt on the machine that uses it"
        raise UsageProblem(reason, "choose another build with --torch")
    return asked


def _pins(build: TorchBuild, arch: str) -> tuple[Pin, ...]:
    """What is locked for the image: the environment's packages, and the installer that builds it."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": arch}
    return (
        *recipe.shipped_lock(build).pins(_PYTHON, linux),
        *lock.read(shipped_recipe().context / "images" / "uv.txt"),
    )
