"""A worker that only claims to have a GPU: it speaks the real protocol over a real pipe and makes no videos.

What the dispatcher and the supervisor do where memory is short cannot be seen on a CPU, where weights are never moved
about. Everything but the worker process is the real thing.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from runtime import footprint, memory
from runtime.footprint import Knobs, Residency, Shape
from runtime.memory import Room
from runtime.messages import (
    OUT_OF_MEMORY,
    Answer,
    Call,
    Done,
    Failed,
    Look,
    Made,
    Ready,
    Request,
    Seen,
    Step,
    Task,
)
from runtime.options import build_request
from runtime.worker import Loading, Worker, WorkerDied


@dataclass
class Gpu:
    """The card.

    Attributes:
        available: Its bytes.
        takes: What a call holds in all, by its task and how the model is loaded; None: what is predicted.
        loaded: How each worker that started on it was loaded, and with which model.
        tasks: What was asked for, and how the model was loaded then.
        may_write: While it is cleared, files wait to be written.
    """

    available: int
    takes: Callable[[Task, Residency], int] | None = None
    loaded: list[tuple[str, Residency]] = field(default_factory=list)
    tasks: list[tuple[Task, Residency]] = field(default_factory=list)
    may_write: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_write.set()

    def worker(self, loading: Loading) -> Worker:
        return ClaimingWorker(self, loading)

    @property
    def room(self) -> Room:
        return Room("cuda", self.available, self.available, "claimed GPU")

    def knobs(self) -> list[Knobs]:
        """Those of the tasks, in turn."""
        return [task.knobs for task, _ in self.tasks]


class ClaimingWorker(Worker):
    """In the place of `runtime.worker.Worker`; the process is a thread."""

    def __init__(self, gpu: Gpu, loading: Loading) -> None:
        super().__init__(loading)
        self._gpu = gpu
        self._ours: Connection | None = None
        self._gone: tuple[int, int] | None = None

    @property
    def waitables(self) -> tuple[Connection, int]:
        assert self._ours is not None
        assert self._gone is not None
        return self._ours, self._gone[0]

    def start(self, on_phase: Callable[[str, float], None], *, warm_up: bool) -> Ready:
        self.stop()
        spec, room = self.loading.spec, self._gpu.room
        precision = self.loading.precision or spec.precision
        residency = self.loading.residency
        if residency is None:
            residency = memory.decide(spec, precision, build_request(model=spec, seed=0), room).residency
        self._ours, theirs = Pipe()
        self._gone = os.pipe()
        self._gpu.loaded.append((spec.id, residency))
        threading.Thread(target=self._serve, args=(theirs, residency), daemon=True).start()
        return Ready(room, precision, residency)

    def send(self, message: Request) -> None:
        assert self._ours is not None
        self._ours.send(message)

    def receive(self) -> Answer:
        assert self._ours is not None
        try:
            answer: Answer = self._ours.recv()
        except (EOFError, OSError):
            raise WorkerDied("the worker is gone") from None
        return answer

    def stop(self) -> None:
        if self._ours:
            self._ours.close()
        self._ours = None

    def kill(self) -> None:
        """Nothing has to be ended at once: `stop` closes the pipe, and the thread ends."""

    def _serve(self, theirs: Connection, residency: Residency) -> None:
        with suppress(EOFError, OSError):
            while True:
                message: Any = theirs.recv()
                if isinstance(message, Look):
                    theirs.send(Seen(self._gpu.room))
                elif isinstance(message, Task) and self._make(message, residency, theirs):
                    threading.Thread(target=self._write, args=(message, theirs), daemon=True).start()

    def _make(self, task: Task, residency: Residency, theirs: Connection) -> bool:
        self._gpu.tasks.append((task, residency))
        request, batch = task.items[0].request, len(task.items)
        spec, precision = self.loading.spec, self.loading.precision or self.loading.spec.precision
        shape = Shape(request.width, request.height, request.num_frames)
        beside = footprint.beside(spec, precision, shape, batch, residency, task.knobs)
        takes = footprint.resident(spec, precision, residency) + beside
        if self._gpu.takes:
            takes = self._gpu.takes(task, residency)
        theirs.send(Step(1, request.num_inference_steps))
        if takes > self._gpu.available:
            for item in task.items:
                theirs.send(Failed(item.token, OUT_OF_MEMORY, "it took more than there is", "ask for less"))
            theirs.send(Made(None))
            return False
        theirs.send(Made(Call(request, task.knobs, batch, 1.0, 0.5, beside)))
        return True

    def _write(self, task: Task, theirs: Connection) -> None:
        self._gpu.may_write.wait()
        with suppress(OSError):
            for item in task.items:
                item.out.write_bytes(b"a video")
                theirs.send(Done(item.token, 0.1))
