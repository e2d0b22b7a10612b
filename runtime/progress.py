"""One JSON object a line on stdout: what the one-shot programs (`generate`, `check`) say while they work.

    {"event": "phase", "name": "load", "started": 4.1, "seconds": 0.3}     a phase that ended; `busy`: the seconds of
                                                                           work in it, where they were fewer
    {"event": "step", "step": 7, "steps": 40}                              a denoising step that ended
    {"event": "done", ...}                                                 the last line, exit status 0
    {"event": "error", "message": "...", "hint": "..."}                    the last line, exit status 1 or 130

`started` counts from the start of the process, interpreter included, so that nothing is hidden. Knows nothing
of what is done in a phase.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from runtime.bytecode import Compiling
from runtime.problems import RuntimeProblem
from runtime.timing import process_started


class Interrupted(Exception):
    """SIGINT or SIGTERM came."""


#: Phases that write nothing, so that there is nothing to tidy up: a signal ends the process in the midst of them.
_ENDED_AT_ONCE = ("files", "imports", "load")
_GAVE_UP = {"message": "interrupted", "hint": ""}
_INTERRUPTED = 130  # the exit status


class Progress:
    """Writes the events, keeps the clock, and turns SIGINT and SIGTERM into `Interrupted` between two steps.

    What takes long without steps, and writes nothing, they end at once.
    """

    def __init__(self) -> None:
        self._epoch = process_started()
        # Keep stdout for our own lines: whatever a library prints goes to stderr.
        self._stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._interrupted = False
        self._phase = ""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    @property
    def seconds(self) -> float:
        """Since the start of the process."""
        return time.monotonic() - self._epoch

    @contextmanager
    def imports(self) -> Iterator[None]:
        """The phase `imports`, and how much of it was compiling to bytecode, which only the first imports cost."""
        with Compiling() as compiling, self.phase("imports"):
            yield
        if (phase := compiling.phase(self._epoch)) is not None:
            self.phase_ended(phase.name, phase.started, phase.seconds, busy=round(compiling.busy, 3))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times what is done inside and says so when it ends well."""
        self._stop_if_asked()
        started = self.seconds
        self._phase = name
        try:
            yield
        finally:
            self._phase = ""
        self.phase_ended(name, started, self.seconds - started)

    def phase_ended(self, name: str, started: float, seconds: float, **more: Any) -> None:
        """Says that a phase, timed elsewhere, took `seconds` from `started`, and what more there is to say of it."""
        self.emit("phase", name=name, started=round(started, 3), seconds=round(seconds, 3), **more)

    def step(self, step: int, steps: int) -> None:
        """Says that a denoising step ended."""
        self.emit("step", step=step, steps=steps)
        self._stop_if_asked()

    def emit(self, event: str, **values: Any) -> None:
        """Writes one line."""
        self._stdout.write(_line(event, values))

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True
        if self._phase in _ENDED_AT_ONCE:
            # Past the buffer: this may have come in the midst of a write to it.
            os.write(self._stdout.fileno(), _line("error", _GAVE_UP).encode())
            os._exit(_INTERRUPTED)

    def _stop_if_asked(self) -> None:
        if self._interrupted:
            raise Interrupted


def _line(event: str, values: dict[str, Any]) -> str:
    return json.dumps({"event": event, **values}, ensure_ascii=False) + "\n"


def run(work: Callable[[Progress], None]) -> int:
    """Does `work` and returns the exit status: 0 done, 1 a problem that was said, 130 interrupted."""
    progress = Progress()
    try:
        work(progress)
    except Interrupted:
        progress.emit("error", **_GAVE_UP)
        return _INTERRUPTED
    except RuntimeProblem as problem:
        progress.emit("error", message=str(problem), hint=problem.hint)
        return 1
    except BrokenPipeError:  # whoever was reading is gone: nobody to tell
        return 1
    except Exception as error:  # noqa: BLE001 - the reader gets one line, whatever happened; stderr the rest
        traceback.print_exc()
        progress.emit("error", message=f"{type(error).__name__}: {error}", hint="this is a bug: please report it")
        return 1
    return 0


def leave(status: int) -> NoReturn:
    """Ends the process at once: all is said and written, and to take torch down in good order costs a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
