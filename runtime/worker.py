"""The process that owns the model, seen from both sides of its pipe.

`Worker` is the parent's side: it starts the process, gives it one task at a time, and notices at once when it
is gone. `_serve` is the process itself. The parent never imports torch: the process is forked from a
forkserver that has everything imported, so a killed one is back as fast as its weights load. A CUDA error, an
out-of-memory kill or a segfault costs one task and never the parent. Knows nothing of jobs or of HTTP.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from runtime.models import ModelSpec
from runtime.options import GenerationRequest, build_request
from runtime.problems import RuntimeProblem

if TYPE_CHECKING:
    from runtime.pipeline import Engine

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["runtime.preload"])

#: How long a worker may take to go once it was told to.
_STOP_SECONDS = 3.0
_WARM_UP_STEPS = 2


class WorkerDied(RuntimeProblem):
    """The worker process ended in the middle of a call."""


class TaskCancelled(Exception):
    """The task was stopped because `Worker.cancel` asked for it."""


@dataclass(frozen=True)
class Task:
    """One video to make: `token` names this attempt, for `Worker.cancel`."""

    token: str
    picture: Path
    out: Path
    request: GenerationRequest


@dataclass(frozen=True)
class Cancel:
    """Parent to worker: stop the task at its next step, or do not begin it."""

    token: str


@dataclass(frozen=True)
class PhaseEnded:
    """Worker to parent: a phase of starting up ended at this monotonic time."""

    name: str
    ended: float


@dataclass(frozen=True)
class Ready:
    """Worker to parent: tasks can come."""

    device: str


@dataclass(frozen=True)
class Step:
    """Worker to parent: a denoising step ended."""

    step: int
    steps: int


@dataclass(frozen=True)
class Done:
    """Worker to parent: the video lies where it was asked for; the seconds that each part took."""

    denoise: float
    decode: float
    encode: float


@dataclass(frozen=True)
class Failed:
    """Worker to parent: no video, and why."""

    message: str
    hint: str
    cancelled: bool = False


_Answer = PhaseEnded | Ready | Step | Done | Failed


class Worker:
    """The parent's handle of the one worker process. `cancel` may come from any thread, the rest from one."""

    def __init__(self, spec: ModelSpec, model_dir: Path, *, warm_up: bool = True) -> None:
        self._arguments = (spec, model_dir, warm_up)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._sending = threading.Lock()

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the process is gone."""
        assert self._process is not None
        return self._process.sentinel

    def start(self, on_phase: Callable[[str, float], None]) -> Ready:
        """Starts a process in place of the last one and waits until it can take tasks.

        Args:
            on_phase: Told the name of each phase and the monotonic time at which it ended.

        Raises:
            WorkerDied: It ended before it was ready.
            RuntimeProblem: It said why it cannot.
        """
        self.stop()
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, *self._arguments), name="worker", daemon=True)
        self._process.start()
        theirs.close()  # ours alone must be open, or its end would never be noticed
        while True:
            answer = self._receive()
            if isinstance(answer, Ready):
                return answer
            if isinstance(answer, PhaseEnded):
                on_phase(answer.name, answer.ended)
            elif isinstance(answer, Failed):
                raise RuntimeProblem(answer.message, answer.hint)

    def run(self, task: Task, on_step: Callable[[int, int], None]) -> Done:
        """Has the video of one task made, and waits for it.

        Raises:
            TaskCancelled: `cancel` was called.
            RuntimeProblem: The worker said why there is no video.
            WorkerDied: The process ended on the way.
        """
        self._send(task)
        while True:
            answer = self._receive()
            if isinstance(answer, Done):
                return answer
            if isinstance(answer, Step):
                on_step(answer.step, answer.steps)
            elif isinstance(answer, Failed):
                if answer.cancelled:
                    raise TaskCancelled
                raise RuntimeProblem(answer.message, answer.hint)

    def cancel(self, token: str) -> None:
        """Asks the task of this token to stop at its next step."""
        with contextlib.suppress(WorkerDied):  # then there is nothing left to stop
            self._send(Cancel(token))

    def stop(self) -> None:
        """Ends the process, in the middle of whatever it does."""
        if self._connection:
            self._connection.close()  # the process ends by itself when it notices
        if self._process and self._process.pid:
            self._process.join(_STOP_SECONDS)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = self._connection = None

    def kill(self) -> None:
        """Ends the process from another thread, so that the one that waits for it gets WorkerDied."""
        if self._process and self._process.pid:
            self._process.kill()

    def _send(self, message: Task | Cancel) -> None:
        with self._sending:
            try:
                assert self._connection is not None
                self._connection.send(message)
            except OSError:
                raise self._died() from None

    def _receive(self) -> _Answer:
        try:
            assert self._connection is not None
            answer: _Answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        return answer

    def _died(self) -> WorkerDied:
        assert self._process is not None
        self._process.join(_STOP_SECONDS)
        status = self._process.exitcode
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return WorkerDied(f"the worker process ended unexpectedly ({how})", "it is replaced by itself")


def _serve(connection: Connection, spec: ModelSpec, model_dir: Path, warm_up: bool) -> None:
    """The worker process: loads the model, then does one task after the other until the parent is gone."""
    inbox = _Inbox(connection)
    try:
        engine = _prepare(connection, spec, model_dir, warm_up)
    except RuntimeProblem as problem:
        connection.send(Failed(str(problem), problem.hint))
        return
    while True:
        connection.send(_attempt(engine, inbox.next_task(), inbox, connection))


def _prepare(connection: Connection, spec: ModelSpec, model_dir: Path, warm_up: bool) -> "Engine":
    from runtime import preload

    if preload.FAILURE:
        raise RuntimeProblem(f"the libraries cannot be imported: {preload.FAILURE}", "build the environment again")
    connection.send(PhaseEnded("worker imports", preload.IMPORTED))
    from runtime.pipeline import Engine, device_name

    engine = Engine.load(spec, model_dir)
    connection.send(PhaseEnded("model load", time.monotonic()))
    if warm_up:
        _warm_up(engine, connection)
    connection.send(Ready(device_name(engine.device)))
    return engine


def _warm_up(engine: "Engine", connection: Connection) -> None:
    """A real video in the smallest preset's shape, so that the first user does not pay for first times."""
    from PIL import Image

    request = build_request("preview", model=engine.spec, seed=0, num_inference_steps=_WARM_UP_STEPS)
    made = engine.generate(Image.linear_gradient("L").convert("RGB"), request, lambda *_: None)
    ended = time.monotonic()
    connection.send(PhaseEnded("warm-up", ended - made.decode_seconds))
    connection.send(PhaseEnded("first frame", ended))


def _attempt(engine: "Engine", task: Task, inbox: "_Inbox", connection: Connection) -> Done | Failed:
    from runtime.pipeline import Cancelled

    def on_step(step: int, steps: int) -> None:
        connection.send(Step(step, steps))
        if task.token in inbox.cancelled:
            raise Cancelled

    try:
        return _make_video(engine, task, on_step)
    except Cancelled:
        return Failed("cancelled", "", cancelled=True)
    except RuntimeProblem as problem:
        return Failed(str(problem), problem.hint)


def _make_video(engine: "Engine", task: Task, on_step: Callable[[int, int], None]) -> Done:
    from runtime.uploads import open_picture
    from runtime.video import write_mp4

    made = engine.generate(open_picture(task.picture), task.request, on_step)
    started = time.monotonic()
    write_mp4(task.out, made.frames, engine.spec, task.request)
    return Done(made.denoise_seconds, made.decode_seconds, time.monotonic() - started)


class _Inbox:
    """Reads the parent's messages in a thread, so that a cancel is seen in the middle of a task.

    The end of the pipe means that the parent is gone, however it went: then this process goes as well.
    """

    def __init__(self, connection: Connection) -> None:
        self.cancelled: set[str] = set()
        self._connection = connection
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next_task(self) -> Task:
        """Waits for a task."""
        return self._tasks.get()

    def _read(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, Task):
                self._tasks.put(message)
            else:
                self.cancelled.add(message.token)
