"""The bundle command: what an installation needs, written into one directory for a machine without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import machine, packages, wheels
from bootstrap.bundles import manifest, writing
from bootstrap.bundles.manifest import Bundle
from bootstrap.bundles.writing import Contents
from bootstrap.choosing import Chooser, picks
from bootstrap.console import Console
from bootstrap.errors import UsageProblem
from bootstrap.execute import Site
from bootstrap.recipe import UV
from bootstrap.recorder import Recorder
from bootstrap.request import DEFAULT_MODEL, Request
from bootstrap.sourcing import http_settings
from bootstrap.state import Home
from mirrors.errors import NoMirror, NoTorch
from mirrors.tags import supported
from runtime import models
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Written:
    """A bundle that is whole now; the digest is its manifest's."""

    directory: Path
    build: str
    python: str
    model: str
    files: int
    bytes: int
    sha256: str


def write(request: Request, directory: Path, home: Home, console: Console, *, with_tool: bool) -> Written:
    """Fetch what is missing of a plan, and write the bundle.

    Raises:
        UsageProblem, UnknownModel, UnknownMirror: what was asked for is not there, or the directory is not empty.
        MirrorError, SetupError: something could not be had, or the disk is full.
    """
    request.require_sense()
    if request.backend != UV:
        raise UsageProblem("a bundle is for the back end uv", "for conda, copy the store and the lock: --environment")
    writing.require_usable(directory)
    model, recorder = models.model(request.model or DEFAULT_MODEL), Recorder("bundle")
    with console.working("detect the machine"):
        here = machine.detect(with_tools=False)
    http = http_settings(here.pip)
    contents = _contents(Chooser(request, here, home, http, console, recorder), model)
    site = Site(home, http, recorder, console, request.offline)
    bundle = writing.write(contents, directory.absolute(), site, with_tool=with_tool)
    return _written(bundle)


def as_document(written: Written) -> dict[str, Any]:
    """What was written, as data."""
    return {**vars(written), "directory": str(written.directory)}


def _written(bundle: Bundle) -> Written:
    return Written(
        bundle.directory,
        bundle.build,
        bundle.python,
        bundle.model,
        len(bundle.files),
        bundle.size,
        manifest.digest(bundle),
    )


def _contents(chooser: Chooser, model: ModelSpec) -> Contents:
    """The best build of PyTorch whose wheels can be had. No mirror is asked where all of them are here."""
    passed_over = []
    for pick in picks(chooser.request, chooser.here):
        try:
            recipe = chooser.recipe_for(pick)
            tags, here = supported(recipe.python.version), packages.directories(chooser.here.pip)
            found, sources = wheels.at_hand(chooser.home, recipe.pins(), tags, here), None
            if found is None:
                sources = chooser.measured(recipe)
                with chooser.console.working("find the wheels"):
                    found = wheels.find(chooser.home, recipe.pins(), tags, sources, chooser.http)
        except NoTorch as error:
            passed_over.append(f"the build {pick.build.id} cannot be had: {error}")
            continue
        for warning in (*passed_over, *pick.warnings):
            chooser.console.warn(warning)
        return Contents(recipe, model, found, sources)
    raise NoMirror("; ".join(passed_over), "`i2v-setup mirrors test` says what each mirror can do")
