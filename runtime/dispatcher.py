"""One thread that takes jobs from the store to the worker, and brings back how they ended.

Every way in which an attempt can end is decided here. While the files of one call are written, the next call is made.
A job whose attempt is not its first may be what killed the worker, so it shares the worker with no other. That there is
a worker, `runtime.supervisor` sees to. Knows nothing of HTTP or of torch.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

from runtime.families import FAMILIES
from runtime.footprint import Knobs
from runtime.forecast import Forecast
from runtime.jobs import MAX_ATTEMPTS, Job, JobStore
from runtime.measurements import Expected, Measurements
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
from runtime.model_spec import ModelSpec
from runtime.options import GenerationRequest
from runtime.problems import in_full
from runtime.status import Live, Settings, State
from runtime.supervisor import Supervisor
from runtime.worker import Loading, Worker, WorkerDied

_log = logging.getLogger(__name__)

#: After what went wrong with the store: it may be a full disk.
_PAUSE_SECONDS = 1.0
#: What a job is thought to take while nothing has been measured.
_GUESSED_SECONDS = 10.0
#: What clients are told while the last job is finished and nothing new is begun.
_STOPPING = "the server is stopping: the queue is kept for its next start"
#: Between two looks whether finished videos have been kept for long enough. With nothing to do for so long, the model
#: is loaded as it usually is again.
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
        make_worker: Callable[[Loading], Worker] = Worker,
    ) -> None:
        """Nothing is started yet.

        Args:
            store: Where the jobs come from.
            measurements: What is known of times and peaks.
            loadings: The models that can be served, the first one first.
            epoch: The monotonic time at which the server's process was started.
            settings: How to work.
            make_worker: Makes the handle of a worker.
        """
        self._settings = settings or Settings()
        self._store = store
        self._supervisor = Supervisor(loadings, epoch, self.wake, make_worker)
        self._forecast = Forecast(measurements, self._supervisor)
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)
        self._stopping = threading.Event()
        self._draining = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._claiming = threading.Lock()  # guards self._call against a cancel at the same time
        self._call: _Current | None = None
        self._writing: dict[str, tuple[Job, Call]] = {}
        self._written: dict[str, float] = {}  # those of them whose file is there, and the seconds that it took
        self._live: Live | None = None
        self._heard = self._sweep_at = time.monotonic()
        self._refitted: str | None = None  # the token of the attempt for which the model was last loaded otherwise

    # For the server and its handlers

    @property
    def state(self) -> State:
        """How the worker is; as others see it, for whom a server that only finishes something is not ready."""
        state = self._supervisor.state
        return replace(state, ready=False, error=_STOPPING) if self.draining else state

    @property
    def accepted(self) -> ModelSpec:
        """The model that new jobs are for."""
        return self._supervisor.accepted

    @property
    def loadings(self) -> Mapping[str, Loading]:
        """The models that can be served, by id."""
        return self._supervisor.loadings

    @property
    def draining(self) -> bool:
        """Whether nothing new is begun any more."""
        return self._draining.is_set()

    @property
    def idle(self) -> bool:
        """Whether the worker is at nothing, files that are still being written included."""
        with self._claiming:
            return not (self._call or self._writing)

    def drain(self) -> None:
        """Has nothing new begun; what the worker is at goes on. From any thread, a signal's handler included."""
        self._draining.set()

    def start(self) -> None:
        """Starts the worker and begins to work, in the background; the server's own phase ends here."""
        self._supervisor.listens()
        self._take_over()
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker; what it was at goes back to the queue."""
        self._stopping.set()
        self.wake()
        self._supervisor.kill()
        if self._thread.is_alive():
            # Only a job that runs is worth waiting for: a worker that is still importing hears nothing.
            self._thread.join(timeout=5 if self._supervisor.state.ready else 0.5)

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
            self._supervisor.worker.cancel(token)
        return cancelled

    def reload(self, model_id: str | None = None) -> None:
        """Loads another model, or this one anew; see `Supervisor.reload`."""
        self._supervisor.reload(model_id)

    def live(self, job: Job) -> Live | None:
        """How far the job is, if the worker is at it."""
        call, live, token = self._call, self._live, _token(job)
        if call and token in call.jobs:
            return live
        if token in self._writing:
            steps = job.request.steps_of(self._supervisor.spec)
            return Live(steps, steps)
        return None

    def verdict(self, request: GenerationRequest) -> Verdict | None:
        """Whether the request fits, going by what was seen of the memory last; None: the worker is not there yet."""
        room = self.state.room
        return self._forecast.verdict(self.accepted, [request], room) if room else None

    def expected(self, request: GenerationRequest) -> Expected | None:
        """How long such a video takes, once it is its turn; None: not known yet."""
        return self._forecast.expected(self.accepted, request)

    def expected_wait(self) -> float | None:
        """Seconds until a video that is asked for now would be begun; None: not known yet, or nobody knows."""
        waited = 0.0
        for job in self._store.unfinished():
            live = self.live(job)
            expected = self._forecast.expected(self.loadings[job.model].spec, job.request)
            if live and live.remaining is not None:
                waited += live.remaining
            elif expected:
                waited += expected.seconds
            else:
                return None
        return waited

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
                _log.warning("%s: its jobs have failed", message, extra={"event": "model_not_served"})
            elif model_id != self.accepted.id:
                self._supervisor.begin_with(model_id)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                try:
                    self._do_next()
                except WorkerDied as problem:
                    self._lost(str(problem))
            except Exception:  # noqa: BLE001 - a full disk, for one: the thread must outlive it
                _log.exception("the dispatcher goes on after an error")
                self._stopping.wait(_PAUSE_SECONDS)
        self._put_back()
        self._supervisor.stop()

    def _do_next(self) -> None:
        self._record()
        if self.state.reloading:
            at_work = bool(self._call or self._writing)
            self._learn(self._supervisor.advance(at_work=at_work, waiting=self._store.models_waiting()))
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS
            self._store.sweep()
        if not self._supervisor.state.ready:
            self._learn(self._supervisor.start(warm_up=self._settings.warm_up))
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
            if self.draining:
                return ()
            together = self._settings.most_together if FAMILIES[self._supervisor.spec.family].batches else 1
            jobs = self._store.claim_batch(self._supervisor.spec.id, together)
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
        room, spec = self._look(), self._supervisor.spec
        verdict = self._forecast.verdict(spec, [job.request for job in jobs], room)
        if not verdict.fits and len(jobs) > 1:
            self._give_back(jobs[1:], counts=False)
            jobs = jobs[:1]
            verdict = self._forecast.verdict(spec, [jobs[0].request], room)
        refit = verdict.residency != self.state.residency
        if not verdict.fits or (refit and self._refitted == _token(jobs[0])):
            self._store.fail(jobs[0], "does_not_fit", verdict.told(jobs[0].request))
            _log.warning("%s: does not fit", jobs[0].id, extra=_about(jobs[0], "failed"))
            self._end_call()
        elif refit:
            self._give_back(jobs, counts=False)
            self._end_call()
            self._refitted = _token(replace(jobs[0], lease=jobs[0].lease + 1))
            while self._writing and not self._stopping.is_set():
                self._wait()  # for the files of earlier videos, which would go with the worker
            self._supervisor.load_otherwise(verdict.residency, ", ".join(verdict.said))
        else:
            self._send(jobs, verdict.knobs, room)

    def _send(self, jobs: Sequence[Job], knobs: Knobs, room: Room) -> None:
        store = self._store
        items = tuple(Item(_token(job), store.picture(job.id), store.video(job), job.request) for job in jobs)
        with self._claiming:
            self._call = _Current({_token(job): job for job in jobs}, knobs, room, time.monotonic())
        self._live = Live(0, jobs[0].request.steps_of(self._supervisor.spec))
        self._supervisor.worker.send(Task(items, knobs))
        for job in jobs:
            _log.info("%s: begun, attempt %d", job.id, job.attempts, extra=_about(job, "begun"))
        for job in jobs:
            if not store.holds(job):  # cancelled while the worker did not know of it
                self._supervisor.worker.cancel(_token(job))

    def _look(self) -> Room:
        """Asks the worker, which is at nothing, how much room there is."""
        self._supervisor.worker.send(Look())
        while True:
            answer = self._receive()
            if isinstance(answer, Seen):
                self._supervisor.change(room=answer.room)
                return answer.room
            self._hear(answer)

    def _wait(self) -> None:
        """Until something is to do, or the worker says something, is gone, or is silent for too long."""
        at_work = self._call or self._writing
        connection, gone = self._supervisor.worker.waitables
        patience = self._heard + self._settings.hang_seconds - time.monotonic() if at_work else _SWEEP_SECONDS
        woken = wait([self._wake_reader, connection, gone], max(0.0, patience))
        if self._wake_reader in woken:
            os.read(self._wake_reader, 4096)
        if connection in woken:
            self._hear(self._receive())
        elif gone in woken:
            self._lost("the worker process ended")
        elif not woken and not at_work:
            self._supervisor.settle()
        elif not woken:
            self._supervisor.worker.kill()
            self._lost(f"the worker said nothing for {self._settings.hang_seconds:.0f} s, so it was ended")

    def _receive(self) -> Answer:
        answer = self._supervisor.worker.receive()
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
                self._written[token] = encode
                self._record()
            case Failed(str() as token):
                self._fail(self._forget(token), answer)

    def _forget(self, token: str) -> Job:
        """The job of a token, which is no longer worked at."""
        if token in self._writing:
            return self._writing.pop(token)[0]
        assert self._call is not None
        return self._call.jobs.pop(token)

    def _record(self) -> None:
        """Has the store know of the videos that are there; where it cannot, for a full disk, they wait."""
        for token, encode in list(self._written.items()):
            job, call = self._writing[token]
            seconds = {"denoise": call.denoise, "decode": call.decode, "encode": encode}
            if self._store.finish(job, seconds):
                took = sum(seconds.values())
                _log.info("%s: completed in %.1f s", job.id, took, extra=_about(job, "completed"))
            del self._writing[token], self._written[token]
            self._forecast.learn(call, encode)

    def _learn(self, ready: Ready | None) -> None:
        """From the warm-up of a new worker."""
        if ready and ready.call:
            self._forecast.learn(ready.call)

    def _fail(self, job: Job, why: Failed) -> None:
        if why.code == CANCELLED:
            _log.info("%s: cancelled", job.id, extra=_about(job, "cancelled"))
            return
        if why.code == OUT_OF_MEMORY and (call := self._call) and call.knobs and call.room:
            # What is known now makes the next attempt use less, or fail as what does not fit.
            self._forecast.ran_out(job.request, len(call.jobs) + 1, call.knobs, call.room)
            if job.attempts < MAX_ATTEMPTS:
                self._store.give_back(job, counts=True)
                about = _about(job, "out_of_memory")
                _log.warning("%s: out of memory; it is tried again with less", job.id, extra=about)
                return
        told = in_full(why.message, why.hint)
        self._store.fail(job, why.code, told)
        _log.warning("%s: failed: %s", job.id, told, extra=_about(job, "failed"))

    def _lost(self, what: str) -> None:
        """The worker is gone, and what it was at with it."""
        self._put_back()
        self._supervisor.lost(what)

    def _put_back(self) -> None:
        call, writing = self._call, [job for job, _ in self._writing.values()]
        at_work = not self._stopping.is_set()
        if call:
            self._give_back(list(call.jobs.values()), counts=at_work and call.knobs is not None)
        self._give_back(writing, counts=at_work)
        self._writing, self._written = {}, {}
        self._end_call()

    def _give_back(self, jobs: Sequence[Job], *, counts: bool) -> None:
        for job in jobs:
            self._store.give_back(job, counts=counts)
            _log.info("%s: back in the queue", job.id, extra=_about(job, "requeued"))

    def _end_call(self) -> None:
        with self._claiming:
            self._live = self._call = None


def _about(job: Job, event: str) -> dict[str, str]:
    """What a line of the log has beside its words (`runtime.logs`)."""
    return {"job": job.id, "event": event}


def _token(job: Job) -> str:
    return f"{job.id}.{job.lease}"


def _is_suspect(job: Job) -> bool:
    """Whether an attempt at it has ended a worker."""
    return job.attempts > 1
