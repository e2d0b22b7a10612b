"""A worker that only claims to have a GPU: it speaks the real protocol over a real pipe and makes no videos.

What the dispatcher and the supervisor do where memory is short cannot be seen on a CPU, where weights are never moved
about. Everything but the worker process is the real thing.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn

from runtime import footprint, memory
from runtime.api import create_app
from runtime.dispatcher import Dispatcher
from runtime.footprint import Knobs, Residency, Shape
from runtime.jobs import Job, JobStore
from runtime.measurements import Measurements
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
from runtime.metrics import Metrics
from runtime.models import model
from runtime.options import build_request
from runtime.services import Services
from runtime.status import Settings
from runtime.worker import Loading, Worker, WorkerDied
from tests.runtime.conftest import wait_until


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


@dataclass
class Shop:
    """A store and a dispatcher over one card."""

    gpu: Gpu
    store: JobStore
    dispatcher: Dispatcher
    database: Path

    def submit(self, model_id: str, preset: str = "12gb", **changes: Any) -> str:
        request = replace(build_request(preset, model=model(model_id), seed=1), **changes)
        job = self.store.add(model_id, request, b"a picture")
        self.dispatcher.wake()
        return job.id

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def wait_for(self, job_id: str, status: str = "completed") -> Job:
        wait_until(lambda: self.job(job_id).status in {"completed", "failed"}, seconds=30)
        job = self.job(job_id)
        assert job.status == status, job
        return job


@contextmanager
def open_shop(gpu: Gpu, directory: Path, *models: str) -> Iterator[Shop]:
    """A store below the directory and a dispatcher at work, with these models; the first is served."""
    store = JobStore(directory / "data", max_waiting=20)
    measurements = Measurements(directory / "measurements.sqlite3")
    loadings = [Loading(model(name), directory) for name in models]
    dispatcher = Dispatcher(store, measurements, loadings, time.monotonic(), Settings(warm_up=False), gpu.worker)
    dispatcher.start()
    try:
        yield Shop(gpu, store, dispatcher, directory / "data" / "jobs.sqlite3")
    finally:
        dispatcher.stop()
        measurements.close()
        store.close()


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    """The address of its HTTP interface, once it is ready."""
    app = create_app(Services(shop.store, shop.dispatcher, Metrics()), api_key=None, loopback_only=True)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started and shop.dispatcher.state.ready, seconds=30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)
