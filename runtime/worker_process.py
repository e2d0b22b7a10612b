"""The process that owns the model: makes one call after the other until its parent is gone.

Three threads. One reads the parent's messages, so that a cancel is seen in the midst of a call; the first one runs the
model; one writes the files of the last call while the next one goes on. Standard library alone at import: the parent
imports it too. `runtime.worker` is the parent's side. Knows nothing of jobs or of HTTP.
"""

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING

from runtime import memory, messages
from runtime.messages import Answer, Call, Done, Failed, Item, Look, Made, PhaseEnded, Ready, Seen, Step, Task
from runtime.options import build_request
from runtime.problems import RuntimeProblem

if TYPE_CHECKING:
    from runtime.pipeline import Engine, Frames, Videos
    from runtime.worker import Loading

_WARM_UP_STEPS = 2
#: How much a worker that computes on the CPU stands back for others.
_BEHIND = 10


def serve(connection: Connection, loading: "Loading", warm_up: bool) -> None:
    """Loads the model, then does what the parent asks for, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; when to end, the parent decides
    line = _Line(connection)
    try:
        engine = _prepare(line, loading)
        call = _warm_up(engine, line) if warm_up else None
    except RuntimeProblem as problem:
        line.send(Failed(None, "cannot_start", str(problem), problem.hint))
        return
    from runtime.device import room

    if engine.device.type == "cpu":
        os.nice(_BEHIND)  # it takes all cores for minutes, and the server needs one for milliseconds
    line.send(Ready(room(engine.device), engine.precision, engine.residency, call))
    with ThreadPoolExecutor(1, "encode") as writing:
        while True:
            match line.next():
                case Look():
                    line.send(Seen(room(engine.device)))
                case Task() as task:
                    _attempt(engine, task, line, writing)


def _prepare(line: "_Line", loading: "Loading") -> "Engine":
    from runtime import preload

    if preload.FAILURE:
        raise RuntimeProblem(f"the libraries cannot be imported: {preload.FAILURE}", "build the environment again")
    line.send(PhaseEnded("worker imports", preload.IMPORTED))
    from runtime.device import choose_device, room
    from runtime.loading import compute_precision
    from runtime.pipeline import Engine

    spec, device = loading.spec, choose_device()
    precision = loading.precision or compute_precision(spec, device)
    residency = loading.residency
    if residency is None:
        residency = memory.decide(spec, precision, build_request(model=spec, seed=0), room(device)).residency
    engine = Engine.load(spec, loading.directory, precision, residency, compiled=loading.compiled)
    line.send(PhaseEnded("model load", time.monotonic()))
    return engine


def _warm_up(engine: "Engine", line: "_Line") -> Call | None:
    """Real videos, so that the first user does not pay for first times; the last of them is told.

    On a GPU kernels are chosen and memory is laid out for each shape, so there it is one of each usual shape. Where
    there is no room for one, that is not the time to say so.
    """
    from PIL import Image

    from runtime.device import room

    call = None
    for preset in ("standard", "preview") if engine.device.type == "cuda" else ("preview",):
        request = build_request(preset, model=engine.spec, seed=0, num_inference_steps=_WARM_UP_STEPS)
        verdict = memory.decide(engine.spec, engine.precision, request, room(engine.device), loaded=engine.residency)
        if not verdict.fits or verdict.residency != engine.residency:
            continue
        picture = Image.linear_gradient("L").convert("RGB")
        made = engine.generate(picture, request, lambda *_: None, verdict.knobs)
        _ = made.frames  # raises what is wrong with them
        call = Call(request, verdict.knobs, 1, made.denoise_seconds, made.decode_seconds, made.peak_bytes)
    ended = time.monotonic()
    line.send(PhaseEnded("warm-up", ended - (call.decode if call else 0)))
    if call:  # where no video was made there was no frame
        line.send(PhaseEnded("first frame", ended))
    return call


def _attempt(engine: "Engine", task: Task, line: "_Line", writing: ThreadPoolExecutor) -> None:
    """One call of the model; its files are written by the other thread."""
    from runtime.pipeline import Cancelled, EngineProblem, OutOfMemory

    try:
        made = _generate(engine, task, line)
    except Cancelled:
        _fail_all(task, line, messages.CANCELLED, RuntimeProblem("cancelled"))
        return
    except OutOfMemory as problem:
        _fail_all(task, line, messages.OUT_OF_MEMORY, problem)
        return
    except RuntimeProblem as problem:
        _fail_all(task, line, "generation_failed", problem)
        return
    pairs = list(zip(task.items, made.videos, strict=True))
    for item, video in pairs:
        if isinstance(video, EngineProblem):
            line.send(Failed(item.token, "generation_failed", str(video), video.hint))
    request, batch = task.items[0].request, len(task.items)
    line.send(Made(Call(request, task.knobs, batch, made.denoise_seconds, made.decode_seconds, made.peak_bytes)))
    for item, video in pairs:
        if not isinstance(video, EngineProblem):
            writing.submit(_write, engine, item, video, line)


def _generate(engine: "Engine", task: Task, line: "_Line") -> "Videos":
    from runtime.pipeline import Cancelled
    from runtime.uploads import open_kept

    def on_step(step: int, steps: int) -> None:
        line.send(Step(step, steps))
        if all(item.token in line.cancelled for item in task.items):
            raise Cancelled

    pictures = [open_kept(item.picture) for item in task.items]
    return engine.generate_together(pictures, [item.request for item in task.items], on_step, task.knobs)


def _fail_all(task: Task, line: "_Line", code: str, problem: RuntimeProblem) -> None:
    for item in task.items:
        line.send(Failed(item.token, code, str(problem), problem.hint))
    line.send(Made(None))


def _write(engine: "Engine", item: Item, frames: "Frames", line: "_Line") -> None:
    from runtime.video import write_video

    started = time.monotonic()
    try:
        write_video(item.out, frames, engine.spec, item.request)
    except Exception as error:  # noqa: BLE001 - this thread has nobody else to tell
        hint = error.hint if isinstance(error, RuntimeProblem) else ""
        line.send(Failed(item.token, "not_written", str(error), hint))
    else:
        line.send(Done(item.token, time.monotonic() - started))


class _Line:
    """The pipe to the parent. Its end means that the parent is gone, however it went: then this process goes too."""

    def __init__(self, connection: Connection) -> None:
        self.cancelled: set[str] = set()
        self._connection = connection
        self._asked: SimpleQueue[Task | Look] = SimpleQueue()
        self._sending = threading.Lock()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> Task | Look:
        """Waits for something to do."""
        return self._asked.get()

    def send(self, answer: Answer) -> None:
        """Tells the parent; from any thread."""
        with self._sending, contextlib.suppress(OSError):  # gone: `_read` sees it as well
            self._connection.send(answer)

    def _read(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, messages.Cancel):
                self.cancelled.add(message.token)
            else:
                self._asked.put(message)
