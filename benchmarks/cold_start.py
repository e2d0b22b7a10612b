"""How long it takes until videos are made: from nothing, phase by phase, and after the worker was killed.

The bundled demo goes through the real server. A real architecture with random weights has no manifest that a server
would take it by, so there it is the same worker process without the HTTP in front of it. Its files were just written:
they are read from the page cache, not from a disk.

    python benchmarks/cold_start.py            both ways with the demo
    python benchmarks/cold_start.py --worker MODEL DIRECTORY PRECISION     one worker, as JSON: `of_worker` starts this

Knows nothing of how fast a video is made then (`benchmarks.generate`, which shows these rows too).
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Row, main
from runtime.models import model
from runtime.worker import Loading, Worker

if TYPE_CHECKING:
    from runtime.model_spec import Arithmetic
    from tests.runtime.conftest import Server

_ROOT = Path(__file__).resolve().parents[1]
_POLL = 0.01
_PATIENCE = 600.0
#: A killed worker finds everything imported already; with the imports it would take about as long as the first one.
_BACK = 0.5
#: What the worker does again when it comes back.
_AGAIN = "model load"


@dataclass(frozen=True)
class ColdStart:
    """One start.

    Attributes:
        phases: The seconds of each, in their order.
        ready: From the start of the process until the model was ready for a user.
        loaded: The same until the model was loaded, without the warm-up: what `back` is to be compared with.
        back: From the end of a killed worker until another one was ready.
    """

    phases: Mapping[str, float]
    ready: float
    loaded: float
    back: float


def measure(quick: bool) -> Sequence[Row]:
    """Both ways, with the bundled model."""
    return [*rows_of_server(1 if quick else 5), *rows("the demo's worker alone", [of_worker("demo", _demo())])]


def rows_of_server(runs: int) -> Iterator[Row]:
    """The server with the bundled model."""
    yield from rows("the demo's server", [of_server() for _ in range(runs)])


def rows(name: str, starts: Sequence[ColdStart]) -> Iterator[Row]:
    """The medians of some starts."""
    peer = f"median of {len(starts)}" if len(starts) > 1 else "a single start"
    for phase in starts[0].phases:
        seconds = statistics.median(start.phases[phase] for start in starts)
        yield Row(f"{name}, cold start: {phase}", seconds, "s", "-", None, peer)
    ready, loaded, back = (
        statistics.median(getattr(start, field) for start in starts) for field in ("ready", "loaded", "back")
    )
    yield Row(f"{name}, cold start: process started to ready", ready, "s", "-", None, peer)
    yield Row(f"{name}, worker killed: ready again", back, "s", "-", None, peer)
    ratio = back / loaded
    against = f"{loaded:.3g} s from the first start until the model was loaded"
    bar = f"at most {_BACK}"
    yield Row(f"{name}, worker killed: ready again / cold", ratio, "x", bar, ratio <= _BACK, against)


def of_server() -> ColdStart:
    """Starts the real server with the bundled model, kills its worker once, and stops it."""
    from tests.runtime.conftest import Server

    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        server = Server(Path(directory) / "data").start()
        try:
            told = _ready(server, restarts=0)
            ready = time.monotonic() - began
            worker = server.worker()
            killed = time.monotonic()
            worker.kill()
            _ready(server, restarts=1)
            back = time.monotonic() - killed
        finally:
            server.stop()
    phases = {phase["name"]: phase["seconds"] for phase in told["phases"]}
    loaded = next(phase["started"] + phase["seconds"] for phase in told["phases"] if phase["name"] == _AGAIN)
    return ColdStart(phases, ready, loaded, back)


def of_worker(model_id: str, directory: Path, precision: Arithmetic | None = None) -> ColdStart:
    """Starts a worker alone, and again after it was killed, from a process that has imported nothing.

    Args:
        model_id: A row of `runtime.models`.
        directory: Where its files lie; what its manifest says of their sizes is not looked at.
        precision: What to compute in; None: what suits the device.
    """
    command = [sys.executable, "-m", "benchmarks.cold_start", "--worker", model_id, str(directory), precision or ""]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=2 * _PATIENCE)
    return ColdStart(**json.loads(done.stdout))


def _start_worker(model_id: str, directory: Path, precision: Arithmetic | None) -> ColdStart:
    began = time.monotonic()
    # Whatever lies there is what is wanted: random weights are in no manifest.
    spec = replace(model(model_id), manifest=None, known=None)
    worker = Worker(Loading(spec, directory, precision))
    ends: dict[str, float] = {}
    try:
        worker.start(ends.__setitem__, warm_up=True)
        ready = time.monotonic()
        worker.kill()
        killed = time.monotonic()
        worker.start(lambda *_: None, warm_up=False)
        back = time.monotonic() - killed
    finally:
        worker.stop()
    starts = (began, *ends.values())
    phases = {name: end - start for (name, end), start in zip(ends.items(), starts, strict=False)}
    return ColdStart(phases, ready - began, ends[_AGAIN] - began, back)


def _ready(server: Server, *, restarts: int) -> dict[str, Any]:
    """What the server says of itself as soon as it is ready and its worker has died so often."""

    def asked() -> dict[str, Any] | None:
        said: dict[str, Any] = server.request("GET", "/ready").json()
        return said if said["ready"] and said["restarts"] >= restarts else None

    return _wait(asked)


def _wait(condition: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(_POLL)
    raise TimeoutError(f"not ready within {_PATIENCE:.0f} s")


def _demo() -> Path:
    directory = model("demo").bundled
    assert directory is not None
    return directory


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        started = _start_worker(sys.argv[2], Path(sys.argv[3]), sys.argv[4] or None)  # type: ignore[arg-type]
        print(json.dumps(asdict(started)))
    else:
        main(measure, __doc__ or "")
