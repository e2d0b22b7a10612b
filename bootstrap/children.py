"""The runtime's one-shot processes: JSON lines from them, phases and progress out of them.

The protocol is runtime/generate.py's: events `phase`, `step`, and at the end `done` or `error`.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap import spawn
from bootstrap.errors import SetupError
from bootstrap.generations import Generation
from bootstrap.recorder import Recorder
from bootstrap.report import Timing

Event = Mapping[str, Any]
_NOTHING: Event = {"event": "nothing"}
_TITLES = {
    "python": "start Python",
    "files": "look at all files",
    "imports": "import torch and diffusers",
    "imports.bytecode": "compile to bytecode",
    "load": "load the model",
    "generation": "tiny generation",
    "warmup": "warm up",
    "denoise": "denoise",
    "decode": "decode frames",
    "encode": "encode the video",
}


@dataclass(frozen=True)
class Child:
    """What to run: `python -m module arguments` in an environment.

    `orphaned` is what it gets when we are killed: one that has nothing to tidy up need not go on to its next step.
    """

    generation: Generation
    module: str
    arguments: Sequence[str]
    orphaned: signal.Signals = signal.SIGTERM


def run(child: Child, recorder: Recorder, *, on_event: Callable[[Event], None], prefix: str = "") -> Event:
    """Run the child to its end; its `done` event. Its phases go to the recorder, under `prefix`.

    Raises:
        SetupError: the process reported an error, or ended without a word.
    """
    command = [str(child.generation.python_path), "-m", child.module, *child.arguments]
    offset, last = recorder.elapsed, _NOTHING
    try:
        with spawn.process(command, env=child.generation.environ(), orphaned=child.orphaned) as process:
            for line in spawn.lines(process):
                if (event := _parse(line)) is not None:
                    _record(event, recorder, offset, prefix, is_first=last is _NOTHING)
                    on_event(event)
                    last = event
            code = process.wait()
    except spawn.ProgramMissing as error:
        raise SetupError(
            f"the environment is damaged: {error}", "build it again: i2v-setup install --rebuild"
        ) from error
    if code == 0 and last["event"] == "done":
        return last
    if last["event"] == "error":
        raise SetupError(str(last["message"]), str(last.get("hint", "")))
    raise SetupError(f"{child.module} ended with {_ending(code)} and gave no reason", "what it printed stands above")


def _parse(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # a library's own print
    return event if isinstance(event, dict) and "event" in event else None


def _record(event: Event, recorder: Recorder, offset: float, prefix: str, *, is_first: bool) -> None:
    """Take over a phase. Its times count from the start of the process: what was before the first one is Python's."""
    if event["event"] != "phase":
        return
    name, started, seconds = str(event["name"]), float(event["started"]), float(event["seconds"])
    if is_first:
        recorder.add(Timing(f"{prefix}python", _TITLES["python"], offset, started))
    busy = float(event["busy"]) if "busy" in event else None
    recorder.add(Timing(prefix + name, _TITLES.get(name, name), offset + started, seconds, busy=busy))


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
