"""The generate command: one video from one picture in the current environment, no server needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import children, current, deployments, weights
from bootstrap.console import Console
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.recorder import Recorder
from bootstrap.state import Home
from runtime import models, options
from runtime.formats import format_of
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Made:
    """The video, and what it was made with."""

    path: Path
    seconds: float
    details: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """One line for a person."""
        told = self.details
        shape = f"{told['frames']} frames, {told['width']}x{told['height']}, seed {told['seed']}"
        return f"{self.path}: {shape}, {self.seconds:.1f} s"


def generate(
    home: Home,
    image: Path,
    out: Path,
    model_id: str | None,
    settings: Mapping[str, Any],
    console: Console,
    precision: str | None = None,
) -> Made:
    """Make `out` from `image`, in the format that its suffix means.

    `settings` are `build_request`'s arguments; None stands for the preset's. Without `precision`, the model is computed
    in what suits it and the device.

    Raises:
        SetupError: nothing installed, no such picture, or the generation failed.
        RuntimeProblem: unknown model, a suffix of no format, or a setting out of bounds.
    """
    format_of(out)
    generation = current.current(home)
    model = installed_model(home, model_id)
    given = {name: value for name, value in settings.items() if value is not None}
    options.build_request(**given, model=model)  # a wrong setting is told before anything is loaded
    _check_paths(image, out)
    console.say(f"{model.title}: {model.note}" if model.note else model.title, "dim")
    recorder = Recorder("generate", model=model.id, picture=image.name, video=str(out))
    arguments = ["--model-id", model.id, "--model-dir", str(weights.directory(home, model))]
    arguments += ["--image", str(image.absolute()), "--out", str(out.absolute()), "--options", json.dumps(given)]
    arguments += ["--precision", precision] if precision else []
    with console.working("generate") as task:

        def tell(event: children.Event) -> None:
            if event["event"] == "step":
                task.at(event["step"], event["steps"])
            elif event["event"] == "phase":
                task.say(f"{event['name']} {float(event['seconds']):.1f} s")

        child = children.Child(generation, "runtime.generate", arguments)
        done = children.run(child, recorder, on_event=tell)
    deployments.save(home, recorder.section())
    return Made(out, recorder.elapsed, done)


def installed_model(home: Home, model_id: str | None) -> ModelSpec:
    """The model of that name, or the one that was deployed last; its files are there.

    Raises:
        SetupError: no model is installed, or not this one.
    """
    if model_id is None:
        deployed = deployments.find_last(home)
        model_id = (deployed.model if deployed else None) or "demo"
    model = models.model(model_id)
    if not weights.present(home, model):
        raise SetupError(f"model {model.id} is not installed", f"run `i2v-setup install --model {model.id}`")
    return model


def _check_paths(image: Path, out: Path) -> None:
    if not image.is_file():
        raise UsageProblem(f"there is no picture {image}", "name a PNG, JPEG or WebP file")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageProblem(f"{out} cannot be written: its directory is not there", "make the directory first")
    if not os.access(out.absolute().parent, os.W_OK):
        raise SetupError(f"{out.absolute().parent} is read-only", "choose another place with -o")
