"""Verifies an environment with a model, in a process of its own: files, imports, a tiny generation.

What is checked is runtime.check's; this is about running it, telling how far it is, and what becomes of a wrong file.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bootstrap import children, weights
from bootstrap.console import Task
from bootstrap.errors import SetupError
from bootstrap.generations import Generation
from bootstrap.recorder import Recorder
from bootstrap.state import Home
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Depth:
    """What is read again, byte for byte: the packages' files, the model's. Their sizes are looked at in any case."""

    packages: bool = False
    weights: bool = False


def verify(
    generation: Generation, home: Home, model: ModelSpec, recorder: Recorder, task: Task, depth: Depth
) -> children.Event:
    """Run the check to its end; what it found out. Its phases go to the recorder.

    Raises:
        SetupError: a package, a library or a file is damaged or missing; says which, and what to do. A file of the
            model that is not what it should be is removed, so that the next installation fetches it again.
    """
    damaged: list[str] = []

    def tell(event: children.Event) -> None:
        if event["event"] == "phase":
            task.say(f"{event['name']} {float(event['seconds']):.1f} s")
        elif event["event"] == "read":
            task.say(f"read {event['file']} again, {event['bytes'] / 1e6:.0f} of {event['total'] / 1e6:.0f} MB")
        elif event["event"] == "damaged":
            damaged.append(str(event["file"]))

    directory = weights.directory(home, model)
    arguments = ["--model-id", model.id, "--model-dir", str(directory)]
    arguments += ["--read-packages"] * depth.packages + ["--read-weights"] * depth.weights
    # It would go on for seconds, and keep the next installation from clearing up.
    child = children.Child(generation, "runtime.check", arguments, orphaned=signal.SIGKILL)
    try:
        return children.run(child, recorder, on_event=tell, prefix="checks.")
    except SetupError:
        _remove(home, model, damaged)
        raise


def _remove(home: Home, model: ModelSpec, damaged: Sequence[str]) -> None:
    """Take wrong files out of the model's directory. The store's own is read again before it is used again."""
    for file in weights.known(home, model).files:
        if file.path in damaged:
            with suppress(OSError):
                (weights.directory(home, model) / file.path).unlink()
