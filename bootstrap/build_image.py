"""The build-image command: a Docker image with the runtime and a model's weights in it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap import deployments, image_packages, pip_settings, weights, wheels
from bootstrap.console import Console
from bootstrap.deploying import DeployFiles, wanted
from bootstrap.errors import UsageProblem
from bootstrap.image_packages import Packages
from bootstrap.recorder import Recorder
from bootstrap.report import Deployment, ImageLayer, Timing
from bootstrap.sourcing import http_settings
from bootstrap.state import Home, writable
from images import build as images
from images import references, slim
from images.errors import ImageError
from images.spec import Built, Destination, ImageSpec, PlannedStep, Slim, Weights
from mirrors.http import HttpSettings
from mirrors.urls import redact
from runtime import models
from runtime.models import ModelSpec

BASE_IMAGE = "python:3.11-slim-bookworm"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as images call them


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
    on: str | None = None
    push: str | None = None
    output: Path | None = None
    pull_rate: float = 1000.0
    deploy_files: Path | None = None
    weights_image: str | None = None


@dataclass(frozen=True)
class Prepared:
    """An image ready to be built, with what led to it."""

    spec: ImageSpec
    destination: Destination
    steps: tuple[PlannedStep, ...]
    packages: Packages
    http: HttpSettings
    recorder: Recorder
    pull_rate: float
    files: DeployFiles | None


def prepare(request: Request, home: Home, console: Console, *, keep: bool = True) -> Prepared:
    """Choose the torch build, find the wheels, and say what will be built. Asks no mirror where all wheels are here.

    Nor does it where nothing is built; an image that weights are to be put into is looked at.

    Unless `keep` is off, the bytes that mirrors were measured with go into the store.

    Raises:
        UnknownModel, UnknownMirror, BadMirror, UsageProblem: there is no such model, mirror or torch build.
        NoMirror: none can serve the lock. ImageError: there is no lock for the build, or no image to put weights into.
    """
    _check(request)
    files = wanted(request.deploy_files, request.weights_image, request.weights)
    model = models.model(request.model)
    known = weights.known(home, model)
    tag = request.tag or f"i2v-{model.id}:latest"
    recorder = Recorder("build-image", model=model.id, image=tag)
    destination, http = Destination(request.push, request.output), http_settings(pip_settings.read())
    packages, there, base, torch_build = Packages(), None, "", ""
    if request.on is not None:
        there = _look(request.on, destination, known, http, console, recorder)
        torch_build = there.torch_build
    elif request.weights != "volume":
        packages = image_packages.find(request.torch, request.mirror, http, home, console, recorder, keep=keep)
        base, torch_build = request.base_image or BASE_IMAGE, packages.torch_build
    spec = ImageSpec(
        tag,
        base,
        torch_build,
        known,
        home.models,
        packages.paths(home),
        weights=request.weights,
        on_top=request.weights_on_top,
        slim=there,
    )
    steps = images.plan(spec, destination=destination, wheel_bytes=packages.size)
    steps += (files.step,) if files else ()
    return Prepared(spec, destination, steps, packages, http, recorder, request.pull_rate, files)


def build(prepared: Prepared, home: Home, console: Console) -> Deployment:
    """Fetch the weights if they are not here, and build; the timing report.

    Raises:
        MirrorError: the weights could not be had. ImageError: no engine, or the build failed.
    """
    spec, recorder = prepared.spec, prepared.recorder
    images.require_engine(spec, prepared.destination)
    image_packages.bring(prepared.packages, prepared.http, home, console, recorder)
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
            if wheels.drop_damaged(home, prepared.packages.wheels):
                raise ImageError(f"{error} (a stored wheel was damaged)", "build again: it is fetched again") from error
            raise
    for warning in built.warnings:
        console.warn(warning)
    for phase in built.phases:
        busy = phase.busy if phase.busy < phase.seconds else None
        started = offset + phase.started
        recorder.add(Timing(f"build.{phase.name}", phase.name, started, phase.seconds, busy=busy))
    recorder.layers = tuple(ImageLayer(one.digest, one.size, one.about, one.outcome) for one in built.layers)
    recorder.facts.update(id=built.image_id, size=f"{built.size / 1e6:.0f} MB", **_layers(built, prepared.pull_rate))
    write_files(prepared, home, console, built.image_id)
    return deployments.save(home, recorder.section())


def write_files(prepared: Prepared, home: Home, console: Console, digest: str = "") -> None:
    """Write the files that deploy the image, if they were asked for.

    Raises:
        ImageError: they cannot be written.
    """
    if prepared.files is not None:
        for path in prepared.files.write(prepared.spec, prepared.destination, home, digest):
            console.say(f"written: {path}")


def _layers(built: Built, pull_rate: float) -> dict[str, str]:
    """What of the layers was there already, and how long a machine that has none of them will pull."""
    facts = {"pull": f"{built.size * 8 / pull_rate / 1e6:.0f} s at {pull_rate:g} Mbit/s, where nothing is there yet"}
    if built.layers:
        reused = [layer for layer in built.layers if layer.reused]
        size = sum(layer.size for layer in reused)
        mounted = sum(layer.outcome == "mounted" for layer in reused)
        how = f", {mounted} of them mounted from another repository" if mounted else ""
        facts["reused"] = f"{len(reused)} of {len(built.layers)} layers, {size / 1e6:.0f} MB{how}"
    return facts


def _check(request: Request) -> None:
    """Raise for what does not go together, or is no name, before anything is done."""
    if request.weights_on_top and request.weights != "baked":
        raise UsageProblem("--weights-on-top goes with baked weights", "leave out one of the two")
    if request.push is not None:
        references.parse(request.push)
    if request.on is None:
        return
    if request.weights != "baked":
        raise UsageProblem(
            f"--on puts weights into an image, and --weights {request.weights} does not", "leave out one"
        )
    of_a_build = {"--base-image": request.base_image, "--torch": request.torch, "--mirror": request.mirror}
    given = [option for option, value in of_a_build.items() if value not in (None, "auto")]
    if given:
        raise UsageProblem(f"--on builds nothing, so it does not go with {', '.join(given)}", "leave them out")


def _look(
    name: str, destination: Destination, model: ModelSpec, http: HttpSettings, console: Console, recorder: Recorder
) -> Slim:
    """The image that the weights are to be put into, and that stays as it is.

    Raises:
        UsageProblem: it would be replaced. ImageError: there is none that weights can be put into.
    """
    shown, here = redact(name), platform.machine()
    with console.working(f"look at {shown}"), recorder.phase("look", f"look at {shown}"):
        found = slim.find(name, _ARCHITECTURES.get(here, here), http)
    if found.reference is None:
        replaced = destination.output is not None and destination.output.resolve() == Path(name).resolve()
    else:
        replaced = destination.push is not None and references.parse(destination.push) == found.reference
    if replaced:
        raise UsageProblem(f"{shown} would be replaced by what is made of it", "choose another name for that")
    if doubt := slim.doubt(found, model):
        console.warn(doubt)
    recorder.facts.update(on=shown)
    return found


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
