"""One thread that takes jobs from the store to the worker, and puts a new worker in a dead one's place.

Every way in which an attempt can end is decided here, in `_run`. Knows nothing of HTTP or of torch.
"""

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any

from runtime.jobs import Job, JobStore
from runtime.problems import RuntimeProblem
from runtime.timing import Phase
from runtime.worker import Task, TaskCancelled, Worker, WorkerDied

_log = logging.getLogger(__name__)

#: Seconds before a worker that could not start is started again: doubled each time, up to the second number.
_RETRY_SECONDS = (1.0, 30.0)
#: What a job is thought to take while none has been finished.
_GUESSED_SECONDS = 10.0


@dataclass(frozen=True)
class State:
    """How the server is. `phases` are those of the first start, the server's own before the worker's."""

    ready: bool = False
    device: str | None = None
    error: str | None = None
    restarts: int = 0
    server_phases: tuple[Phase, ...] = ()
    worker_phases: tuple[Phase, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All of them, in order."""
        return self.server_phases + self.worker_phases


@dataclass(frozen=True)
class Live:
    """How far the running job is; `remaining` seconds are None until the first step has been timed."""

    step: int
    steps: int
    remaining: float | None = None


class Dispatcher:
    """Owns the worker. The server calls `start` and `stop`, its handlers the rest, from any thread."""

    def __init__(self, store: JobStore, worker: Worker, epoch: float) -> None:
        """`epoch` is the monotonic time at which the server's process was started."""
        self.state = State()
        self._store = store
        self._worker = worker
        self._epoch = epoch
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._changing = threading.Lock()  # guards self.state
        self._claiming = threading.Lock()  # guards self._current against a cancel at the same time
        self._current: Job | None = None
        self._live: Live | None = None
        self._last_seconds = _GUESSED_SECONDS

    def start(self) -> None:
        """Starts the worker and begins to work, in the background; the server's own phase ends here."""
        self._change(server_phases=(self._phase("server", self._epoch, time.monotonic()),))
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker; the job that it was at goes back to the queue."""
        self._stopping.set()
        self.wake()
        self._worker.kill()
        if self._thread.is_alive():
            # Only a job that runs is worth waiting for: a worker that is still importing hears nothing.
            self._thread.join(timeout=5 if self.state.ready else 0.5)

    def wake(self) -> None:
        """Says that there may be something to do."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of reasons to wake already
            os.write(self._wake_writer, b"!")

    def cancel(self, job_id: str) -> bool:
        """Ends an unfinished job. False if there is none of this id."""
        with self._claiming:
            cancelled = self._store.cancel(job_id)
            if cancelled and self._current and self._current.id == job_id:
                self._worker.cancel(_token(self._current))
        return cancelled

    def live(self, job: Job) -> Live | None:
        """How far the job is, if it is the one that runs."""
        current, live = self._current, self._live
        return live if current and _token(current) == _token(job) else None

    def retry_after(self) -> int:
        """In how many seconds a place in the queue may be free, going by the job that runs or the last one."""
        live = self._live
        return max(1, round(live.remaining if live and live.remaining else self._last_seconds))

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._do_next()
            except Exception:  # noqa: BLE001 - a full disk, for one: the thread must outlive it
                _log.exception("the dispatcher goes on after an error")
                self._stopping.wait(_RETRY_SECONDS[0])
        self._worker.stop()

    def _do_next(self) -> None:
        if not self.state.ready:
            self._start_worker()
        elif job := self._claim():
            self._run(job)
        else:
            self._wait()

    def _start_worker(self) -> None:
        """Starts a worker, again and again if need be: what is missing may be put there meanwhile."""
        pause, longest = _RETRY_SECONDS
        while not self._stopping.is_set():
            try:
                ready = self._worker.start(self._phase_recorder())
            except RuntimeProblem as problem:
                if not self._stopping.is_set():
                    _log.error("the worker cannot start: %s", _in_full(problem))
                self._change(error=_in_full(problem))
                self._stopping.wait(pause)
                pause = min(2 * pause, longest)
            else:
                self._change(ready=True, device=ready.device, error=None)
                _log.info("ready on %s, %.1f s after the start", ready.device, time.monotonic() - self._epoch)
                return

    def _phase_recorder(self) -> Any:
        """What to tell of each phase: on the first start they are kept, end to end."""
        last = time.monotonic()
        if not self.state.restarts:
            self._change(worker_phases=())

        def ended(name: str, at: float) -> None:
            nonlocal last
            if not self.state.restarts:
                self._change(worker_phases=(*self.state.worker_phases, self._phase(name, last, at)))
            last = at

        return ended

    def _phase(self, name: str, start: float, end: float) -> Phase:
        return Phase(name, round(start - self._epoch, 3), round(end - start, 3))

    def _claim(self) -> Job | None:
        with self._claiming:
            self._current = self._store.claim()
            return self._current

    def _run(self, job: Job) -> None:
        """One attempt of one job, and what comes of it."""
        started = time.monotonic()
        self._live = Live(0, job.request.num_inference_steps)

        def on_step(step: int, steps: int) -> None:
            each = (time.monotonic() - started) / step
            self._live = Live(step, steps, each * (steps - step))

        task = Task(_token(job), self._store.picture(job.id), self._store.video(job), job.request)
        try:
            done = self._worker.run(task, on_step)
        except TaskCancelled:
            _log.info("%s: cancelled", job.id)
        except WorkerDied as problem:
            self._store.give_back(job, counts=not self._stopping.is_set())
            self._lost(f"{job.id}: {problem}")
        except RuntimeProblem as problem:
            self._store.fail(job, "generation_failed", _in_full(problem))
            _log.warning("%s: failed: %s", job.id, _in_full(problem))
        else:
            self._store.finish(job, {"denoise": done.denoise, "decode": done.decode, "encode": done.encode})
            self._last_seconds = time.monotonic() - started
            _log.info("%s: completed in %.1f s", job.id, self._last_seconds)
        finally:
            self._live = self._current = None

    def _wait(self) -> None:
        """Until something is to do, or the worker is gone."""
        woken = wait([self._wake_reader, self._worker.sentinel])
        if self._wake_reader in woken:
            os.read(self._wake_reader, 4096)
        if self._worker.sentinel in woken:
            self._lost("the worker process ended while it waited")

    def _lost(self, what: str) -> None:
        if not self._stopping.is_set():
            _log.error("%s; a new worker is started", what)
        self._change(ready=False, restarts=self.state.restarts + 1)

    def _change(self, **values: Any) -> None:
        with self._changing:
            self.state = replace(self.state, **values)


def _token(job: Job) -> str:
    return f"{job.id}.{job.lease}"


def _in_full(problem: RuntimeProblem) -> str:
    return f"{problem} ({problem.hint})" if problem.hint else str(problem)
