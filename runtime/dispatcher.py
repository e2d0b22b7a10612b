"""One thread that takes jobs from the store to the worker, and puts a new worker in a dead one's place.

Every way in which an attempt can end is decided here. While the files of one call are written, the next call is made.
A job whose attempt is not its first may be what killed the worker, so it shares the worker with no other. Knows nothing
of HTTP or of torch.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from runtime import footprint, memory
from runtime.families import FAMILIES
from runtime.footprint import Knobs
from runtime.jobs import Job, JobStore
from runtime.measurements import Expected, Kind, Measurements
from runtime.memory import Room, Verdict
from runtime.messages import (
    CANCELLED,
    OUT_OF_MEMORY,
    Answer,
    Call,
    Done,
    Failed,
    Item,
    Look,
    Made,
    Ready,
    Seen,
    Step,
    Task,
)
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem
from runtime.status import Live, Settings, State
from runtime.succession import Successor
from runtime.timing import Phase
from runtime.worker import Loading, Worker, WorkerDied

_log = logging.getLogger(__name__)

#: Seconds before a worker that could not start is started again: doubled each time, up to the second number.
_RETRY_SECONDS = (1.0, 30.0)
#: What a job is thought to take while nothing has been measured.
_GUESSED_SECONDS = 10.0
#: Between two looks whether finished videos have been kept for long enough; where nothing happens, longer.
_SWEEP_SECONDS = 60.0
#: Videos that may wait for their file to be written; a faster denoiser waits.
_MOST_WRITING = 4


@dataclass
class _Current:
    """The call that the worker is at: its jobs that have not failed, by token, and since when it goes on."""

    jobs: dict[str, Job]
    knobs: Knobs | None = None  # None: the worker was not told yet
    room: Room | None = None
    started: float = 0.0


class Dispatcher:
    """Owns the worker. The server calls `start` and `stop`, its handlers the rest, from any thread."""

    def __init__(
        self,
        store: JobStore,
        measurements: Measurements,
        loadings: Sequence[Loading],
        epoch: float,
        settings: Settings | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            store: Where the jobs come from.
            measurements: What is known of times and peaks.
            loadings: The models that can be served, the first one first.
            epoch: The monotonic time at which the server's process was started.
            settings: How to work.
        """
        self.state = State()
        self.loadings = {loading.spec.id: loading for loading in loadings}
        self.accepted = loadings[0].spec  # what new jobs are for
        self._settings = settings or Settings()
        self._store = store
        self._measurements = measurements
        self._worker = Worker(loadings[0])
        self._epoch = epoch
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._changing = threading.Lock()  # guards self.state
        self._claiming = threading.Lock()  # guards self._call against a cancel at the same time
        self._call: _Current | None = None
        self._writing: dict[str, tuple[Job, Call]] = {}
        self._live: Live | None = None
        self._heard = self._sweep_at = time.monotonic()
        self._successor: Successor | None = None
        self._refitted: Job | None = None  # for which the worker was last loaded anew

    # For the server and its handlers

    def start(self) -> None:
        """Starts the worker and begins to work, in the background; the server's own phase ends here."""
        self._change(server_phases=(self._phase("server", self._epoch, time.monotonic()),))
        self._take_over()
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker; what it was at goes back to the queue."""
        self._stopping.set()
        self.wake()
        self._worker.kill()
        if self._successor:
            self._successor.worker.kill()
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
            call = self._call
            tokens = [token for token, job in call.jobs.items() if job.id == job_id] if cancelled and call else []
        for token in tokens:
            self._worker.cancel(token)
        return cancelled

    def reload(self, model_id: str | None = None) -> None:
        """Has another worker made ready in the place of this one, which serves until then where memory allows.

        Jobs are made by the model that they were accepted for.

        Args:
            model_id: One of `loadings`; None: the model that is served now, read anew.
        """
        loading = self.loadings[model_id or self.accepted.id]
        self._change(reloading=loading.spec.id, reload_error=None)
        with self._claiming:
            if self._successor and self._successor.begun:
                self._successor.worker.kill()
            self._successor = Successor(loading, self.wake)
        self.wake()

    def live(self, job: Job) -> Live | None:
        """How far the job is, if the worker is at it."""
        call, live, token = self._call, self._live, _token(job)
        if call and token in call.jobs:
            return live
        if token in self._writing:
            return Live(job.request.num_inference_steps, job.request.num_inference_steps)
        return None

    def verdict(self, request: GenerationRequest) -> Verdict | None:
        """Whether the request fits, going by what was seen of the memory last; None: the worker is not there yet."""
        room = self.state.room
        return self._decide(self.accepted, [request], room) if room else None

    def expected(self, request: GenerationRequest) -> Expected | None:
        """How long such a video takes, once it is its turn; None: not known yet."""
        return self._measurements.expected(self._kind(self.accepted), request) if self.state.device else None

    def retry_after(self) -> int:
        """In how many seconds a place in the queue may be free."""
        live, call = self._live, self._call
        if live and live.remaining:
            return max(1, round(live.remaining))
        job = next(iter(call.jobs.values()), None) if call else None
        expected = self.expected(job.request) if job else None
        return max(1, round(expected.seconds if expected else _GUESSED_SECONDS))

    # The thread

    def _take_over(self) -> None:
        """What an earlier server has left: jobs of other models are made first, or fail if there is no such model."""
        for model_id in self._store.models_waiting():
            if model_id not in self.loadings:
                message = f"the model {model_id} is not served any more"
                while job := self._store.claim(model_id):
                    self._store.fail(job, "model_not_served", message)
                _log.warning("%s: its jobs have failed", message)
            elif model_id != self.accepted.id:
                self._worker = Worker(self.loadings[model_id])
                self.reload()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._do_next()
            except WorkerDied as problem:
                self._lost(str(problem))
            except Exception:  # noqa: BLE001 - a full disk, for one: the thread must outlive it
                _log.exception("the dispatcher goes on after an error")
                self._stopping.wait(_RETRY_SECONDS[0])
        self._put_back()
        self._worker.stop()
        if self._successor:
            self._successor.worker.stop()

    def _do_next(self) -> None:
        if self._successor:
            self._succeed(self._successor)
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS
            self._store.sweep()
        if not self.state.ready:
            self._start_worker()
        elif jobs := self._claim():
            self._begin(jobs)
        else:
            self._wait()

    def _claim(self) -> Sequence[Job]:
        """The jobs of the next call, which is the current one from now on; none while they would have to share."""
        writing = [job for job, _ in self._writing.values()]
        if self._call or len(writing) >= _MOST_WRITING or any(map(_is_suspect, writing)):
            return ()
        with self._claiming:
            together = self._settings.most_together if FAMILIES[self._spec.family].batches else 1
            jobs = self._store.claim_batch(self._spec.id, together)
            if not jobs:
                return ()
            self._call = _Current({_token(job): job for job in jobs})
        if writing and _is_suspect(jobs[0]):
            self._give_back(jobs, counts=False)
            self._end_call()
            return ()
        return jobs

    def _begin(self, jobs: Sequence[Job]) -> None:
        """Decides how the call is made, and has it made, or says why not."""
        room = self._look()
        verdict = self._decide(self._spec, [job.request for job in jobs], room)
        if not verdict.fits and len(jobs) > 1:
            self._give_back(jobs[1:], counts=False)
            jobs = jobs[:1]
            verdict = self._decide(self._spec, [jobs[0].request], room)
        refit = verdict.residency != self._worker.loading.residency
        if not verdict.fits or (refit and self._refitted == jobs[0]):
            self._store.fail(jobs[0], "does_not_fit", verdict.told(jobs[0].request))
            self._end_call()
        elif refit:
            self._give_back(jobs, counts=False)
            self._end_call()
            self._refitted = replace(jobs[0], lease=jobs[0].lease + 1)
            self._load_anew(replace(self._worker.loading, residency=verdict.residency), ", ".join(verdict.said))
        else:
            self._send(jobs, verdict.knobs, room)

    def _send(self, jobs: Sequence[Job], knobs: Knobs, room: Room) -> None:
        store = self._store
        items = tuple(Item(_token(job), store.picture(job.id), store.video(job), job.request) for job in jobs)
        with self._claiming:
            self._call = _Current({_token(job): job for job in jobs}, knobs, room, time.monotonic())
        self._live = Live(0, jobs[0].request.num_inference_steps)
        self._worker.send(Task(items, knobs))
        for job in jobs:
            if not store.holds(job):  # cancelled while the worker did not know of it
                self._worker.cancel(_token(job))

    def _look(self) -> Room:
        """Asks the worker, which is at nothing, how much room there is."""
        self._worker.send(Look())
        while True:
            answer = self._receive()
            if isinstance(answer, Seen):
                self._change(room=answer.room)
                return answer.room
            self._hear(answer)

    def _wait(self) -> None:
        """Until something is to do, or the worker says something, is gone, or is silent for too long."""
        at_work = self._call or self._writing
        connection, gone = self._worker.waitables
        patience = self._heard + self._settings.hang_seconds - time.monotonic() if at_work else None
        woken = wait([self._wake_reader, connection, gone], None if patience is None else max(0.0, patience))
        if self._wake_reader in woken:
            os.read(self._wake_reader, 4096)
        if connection in woken:
            self._hear(self._receive())
        elif gone in woken:
            self._lost("the worker process ended")
        elif not woken:
            self._worker.kill()
            self._lost(f"the worker said nothing for {self._settings.hang_seconds:.0f} s, so it was ended")

    def _receive(self) -> Answer:
        answer = self._worker.receive()
        self._heard = time.monotonic()
        return answer

    def _hear(self, answer: Answer) -> None:
        match answer:
            case Step(step, steps):
                assert self._call is not None
                each = (time.monotonic() - self._call.started) / step
                self._live = Live(step, steps, each * (steps - step))
            case Made(call):
                assert self._call is not None
                if call:
                    self._writing.update({token: (job, call) for token, job in self._call.jobs.items()})
                self._end_call()
            case Done(token, encode):
                self._finish(*self._writing[token], encode)
                del self._writing[token]
            case Failed(str() as token):
                self._fail(self._forget(token), answer)

    def _forget(self, token: str) -> Job:
        """The job of a token, which is no longer worked at."""
        if token in self._writing:
            return self._writing.pop(token)[0]
        assert self._call is not None
        return self._call.jobs.pop(token)

    def _finish(self, job: Job, call: Call, encode: float) -> None:
        seconds = {"denoise": call.denoise, "decode": call.decode, "encode": encode}
        if self._store.finish(job, seconds):
            _log.info("%s: completed in %.1f s", job.id, sum(seconds.values()))
        self._measurements.add(self._kind(self._spec), call, encode)

    def _fail(self, job: Job, why: Failed) -> None:
        if why.code == CANCELLED:
            _log.info("%s: cancelled", job.id)
        elif why.code == OUT_OF_MEMORY and (call := self._call) and call.knobs and call.room:
            # What is known now makes the next attempt use less, or fail as what does not fit.
            beside = call.room.available - footprint.resident(
                self._spec, self._precision, self._worker.loading.residency
            )
            self._measurements.ran_out(self._kind(self._spec), job.request, len(call.jobs) + 1, call.knobs, beside)
            self._store.give_back(job, counts=True)
            _log.warning("%s: out of memory; it is tried again with less", job.id)
        else:
            self._store.fail(job, why.code, in_full(why.message, why.hint))
            _log.warning("%s: failed: %s", job.id, in_full(why.message, why.hint))

    def _lost(self, what: str) -> None:
        """The worker is gone, and what it was at with it."""
        if not self._stopping.is_set():
            _log.error("%s; a new worker is started", what)
        self._put_back()
        self._change(ready=False, restarts=self.state.restarts + 1)

    def _put_back(self) -> None:
        call, writing = self._call, [job for job, _ in self._writing.values()]
        at_work = not self._stopping.is_set()
        if call:
            self._give_back(list(call.jobs.values()), counts=at_work and call.knobs is not None)
        self._give_back(writing, counts=at_work)
        self._writing = {}
        self._end_call()

    def _give_back(self, jobs: Sequence[Job], *, counts: bool) -> None:
        for job in jobs:
            self._store.give_back(job, counts=counts)

    def _end_call(self) -> None:
        with self._claiming:
            self._live = self._call = None

    # Workers

    def _start_worker(self) -> None:
        """Starts a worker, again and again if need be: what is missing may be put there meanwhile."""
        pause, longest = _RETRY_SECONDS
        first = not self.state.restarts and not self.state.device
        while not self._stopping.is_set():
            try:
                # A dead worker's jobs wait: what they would gain from a warm-up, they would wait for.
                ready = self._worker.start(self._phase_recorder(keep=first), warm_up=first and self._settings.warm_up)
            except RuntimeProblem as problem:
                if not self._stopping.is_set():
                    _log.error("the worker cannot start: %s", in_full(str(problem), problem.hint))
                self._change(error=in_full(str(problem), problem.hint))
                self._stopping.wait(pause)
                pause = min(2 * pause, longest)
            else:
                self._welcome(ready)
                _log.info("ready on %s, %.1f s after the start", ready.room.name, time.monotonic() - self._epoch)
                return

    def _welcome(self, ready: Ready) -> None:
        self._change(ready=True, precision=ready.precision, room=ready.room, error=None)
        if ready.call:
            self._measurements.add(self._kind(self._spec), ready.call)

    def _load_anew(self, loading: Loading, why: str) -> None:
        """Replaces the worker by one that loads another model, or the same in another way, here and now."""
        _log.info("the model %s is loaded anew: %s", loading.spec.id, why)
        self._worker.stop()
        self._worker = Worker(loading)
        self._change(ready=False)

    def _succeed(self, successor: Successor) -> None:
        """Brings a reload on as far as it can be brought now."""
        other = successor.worker.loading.spec.id != self._spec.id
        if not successor.begun:
            if self.state.ready and self._fit_together(successor.worker.loading):
                successor.begin()
                return
        elif successor.problem:
            self._successor = None
            problem = in_full(str(successor.problem), successor.problem.hint)
            _log.error("the reload failed, the old worker stays: %s", problem)
            self._change(reloading=None, reload_error=problem)
            return
        elif not successor.ready:
            return
        self.accepted = successor.worker.loading.spec
        if self._call or self._writing or (other and self._spec.id in self._store.models_waiting()):
            return
        self._successor = None
        self._change(reloading=None)
        if successor.ready:
            self._worker.stop()
            self._worker = successor.worker
            self._welcome(successor.ready)
            _log.info("reloaded: %s", self._spec.id)
        else:
            self._load_anew(successor.worker.loading, "a reload was asked for, and both do not fit at once")

    def _fit_together(self, loading: Loading) -> bool:
        room = self.state.room
        new = footprint.resident(loading.spec, loading.precision or self._precision, loading.residency)
        old = footprint.resident(self._spec, self._precision, self._worker.loading.residency)
        return room is not None and memory.MARGIN * (new + old) <= room.available

    # What is known

    @property
    def _spec(self) -> ModelSpec:
        return self._worker.loading.spec

    @property
    def _precision(self) -> Arithmetic:
        """What the worker computes in; before there was one, what it probably will."""
        return self.state.precision or self._worker.loading.precision or self._spec.precision

    def _kind(self, spec: ModelSpec) -> Kind:
        residency = self._worker.loading.residency
        return Kind(self.state.device or "", spec.id, f"{self._precision} {residency}")

    def _decide(self, spec: ModelSpec, requests: Sequence[GenerationRequest], room: Room) -> Verdict:
        return memory.decide(
            spec,
            self._precision,
            requests[0],
            room,
            batch=len(requests),
            learnt=partial(self._measurements.peak, self._kind(spec)),
            loaded=self._worker.loading.residency,
        )

    def _phase_recorder(self, *, keep: bool) -> Any:
        """What to tell of each phase: on the first start they are kept, end to end."""
        last = time.monotonic()
        if keep:
            self._change(worker_phases=())

        def ended(name: str, at: float) -> None:
            nonlocal last
            if keep:
                self._change(worker_phases=(*self.state.worker_phases, self._phase(name, last, at)))
            last = at

        return ended

    def _phase(self, name: str, start: float, end: float) -> Phase:
        return Phase(name, round(start - self._epoch, 3), round(end - start, 3))

    def _change(self, **values: Any) -> None:
        with self._changing:
            self.state = replace(self.state, **values)


def _token(job: Job) -> str:
    return f"{job.id}.{job.lease}"


def _is_suspect(job: Job) -> bool:
    """Whether an attempt at it has ended a worker."""
    return job.attempts > 1


def in_full(message: str, hint: str) -> str:
    """A problem in one line."""
    return f"{message} ({hint})" if hint else message
