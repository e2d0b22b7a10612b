"""Keeps one worker ready: starts it, puts another in a dead one's place, loads it otherwise, reloads it.

All but `reload` and `kill` is called from the dispatcher's thread. Knows nothing of jobs: it is told when a worker may
be replaced.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from runtime import footprint, memory
from runtime.footprint import Residency
from runtime.messages import Ready
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.problems import RuntimeProblem, in_full
from runtime.status import State
from runtime.succession import Successor
from runtime.timing import Phase
from runtime.worker import Loading, Worker

_log = logging.getLogger(__name__)

#: Seconds before a worker that could not start is started again: doubled each time, up to the second number.
_RETRY_SECONDS = (1.0, 30.0)


class Supervisor:
    """Owns the worker, and the one that is made ready to take its place.

    Attributes:
        state: How the worker is; replaced as a whole, so any thread may read it.
        loadings: The models that can be served, by id, the first one first.
        accepted: The model that new jobs are for.
        worker: The handle of the worker.
    """

    def __init__(
        self,
        loadings: Sequence[Loading],
        epoch: float,
        on_change: Callable[[], None],
        make_worker: Callable[[Loading], Worker] = Worker,
    ) -> None:
        """Nothing is started yet.

        Args:
            loadings: The models that can be served, the first one first.
            epoch: The monotonic time at which the server's process was started.
            on_change: Called from any thread when there is something to do.
            make_worker: Makes the handle of a worker.
        """
        self.state = State()
        self.loadings = {loading.spec.id: loading for loading in loadings}
        self.accepted = loadings[0].spec
        self._make_worker = make_worker
        self.worker = make_worker(loadings[0])
        self._epoch = epoch
        self._on_change = on_change
        self._changing = threading.Lock()  # guards self.state
        self._succeeding = threading.Lock()  # guards self._successor
        self._successor: Successor | None = None
        self._usual: dict[str, Residency] = {}  # how each model is loaded where no single job needs it otherwise
        self._stopping = threading.Event()

    @property
    def spec(self) -> ModelSpec:
        """The model that the worker has."""
        return self.worker.loading.spec

    def precision_of(self, spec: ModelSpec) -> Arithmetic:
        """What the worker computes the model in, or would."""
        state, asked = self.state, self.loadings[spec.id].precision
        if state.precision and spec.id == self.spec.id:
            return state.precision
        return asked or ("fp32" if state.room and state.room.kind == "cpu" else spec.precision)

    def change(self, **values: Any) -> None:
        """Replaces the state by one with other values."""
        with self._changing:
            self.state = replace(self.state, **values)

    def listens(self) -> None:
        """Says that the server's own phase of the start ends here."""
        self.change(server_phases=(self._phase("server", self._epoch, time.monotonic()),))

    def begin_with(self, model_id: str) -> None:
        """Has a worker of another model started first, which the accepted one then succeeds."""
        self.worker = self._make_worker(self.loadings[model_id])
        self.reload()

    def start(self, *, warm_up: bool) -> Ready | None:
        """Starts a worker, again and again if need be: what is missing may be put there meanwhile.

        Returns:
            What it said when it was ready; None: it is to be started no more.
        """
        pause, longest = _RETRY_SECONDS
        first = not self.state.restarts and not self.state.device
        while not self._stopping.is_set():
            try:
                # A dead worker's jobs wait: what they would gain from a warm-up, they would wait for.
                ready = self.worker.start(self._phase_recorder(keep=first), warm_up=first and warm_up)
            except RuntimeProblem as problem:
                why = in_full(str(problem), problem.hint)
                if not self._stopping.is_set():
                    _log.error("the worker cannot start: %s", why, extra={"event": "cannot_start"})
                self.change(error=why)
                self._stopping.wait(pause)
                pause = min(2 * pause, longest)
            else:
                self._welcome(ready)
                after = time.monotonic() - self._epoch
                _log.info("ready on %s, %.1f s after the start", ready.room.name, after, extra={"event": "ready"})
                return ready
        return None

    def lost(self, what: str) -> None:
        """The worker is gone; the next `start` makes another."""
        if not self._stopping.is_set():
            _log.error("%s; a new worker is started", what, extra={"event": "worker_lost"})
        self.change(ready=False, restarts=self.state.restarts + 1)

    def load_otherwise(self, residency: Residency, why: str) -> None:
        """Replaces the worker, which is at nothing, by one that has the same model in another way."""
        self._load_anew(replace(self.worker.loading, residency=residency), why)

    def settle(self) -> None:
        """Has the model loaded as it usually is, if a job needed it otherwise: to be called when none has come since.

        Otherwise the small videos after a large one would all be as slow as that one had to be.
        """
        if self.state.residency != self._usual.get(self.spec.id, self.state.residency) and not self._successor:
            self.reload(self.spec.id)

    def reload(self, model_id: str | None = None) -> None:
        """Has another worker made ready in the place of this one, which serves until then where memory allows.

        Jobs are made by the model that they were accepted for. From any thread.

        Args:
            model_id: One of `loadings`; None: the model that is served now, read anew.
        """
        loading = self.loadings[model_id or self.accepted.id]
        self.change(reloading=loading.spec.id, reload_error=None)
        with self._succeeding:
            if self._successor and self._successor.begun:
                self._successor.worker.kill()
            self._successor = Successor(loading, self._beside(loading), self._on_change)
        self._on_change()

    def advance(self, *, at_work: bool, waiting: Sequence[str]) -> Ready | None:
        """Brings a reload on as far as it can be brought now.

        Args:
            at_work: Whether the worker is at something.
            waiting: The ids of the models that jobs wait for.

        Returns:
            What the new worker said when it was ready, if it has taken over.
        """
        successor = self._successor
        if successor is None:
            return None
        if successor.problem:
            self._give_up(successor, successor.problem)
            return None
        if not successor.begun and self.state.ready and self._fits_beside(successor.worker.loading):
            successor.begin()
        if successor.begun and not successor.ready:
            return None
        self.accepted = successor.loading.spec
        if at_work or (self.accepted.id != self.spec.id and self.spec.id in waiting):
            return None
        return self._let_succeed(successor)

    def kill(self) -> None:
        """Ends the workers, in the midst of what they are at, for good. From any thread."""
        self._stopping.set()
        self.worker.kill()
        if self._successor:
            self._successor.worker.kill()

    def stop(self) -> None:
        """Waits for their end."""
        self.worker.stop()
        if self._successor:
            self._successor.worker.stop()

    def _give_up(self, successor: Successor, problem: RuntimeProblem) -> None:
        if not self._dismiss(successor):
            return
        told = in_full(str(problem), problem.hint)
        _log.error("the reload failed, the old worker stays: %s", told, extra={"event": "reload_failed"})
        self.change(reloading=None, reload_error=told)

    def _let_succeed(self, successor: Successor) -> Ready | None:
        if not self._dismiss(successor):
            return None
        self.change(reloading=None)
        if successor.ready is None:
            self._load_anew(successor.loading, "a reload was asked for, and both do not fit at once")
            return None
        self.worker.stop()
        self.worker = successor.worker
        self._welcome(successor.ready)
        _log.info("reloaded: %s", self.spec.id, extra={"event": "reloaded"})
        return successor.ready

    def _dismiss(self, successor: Successor) -> bool:
        """False if another reload was asked for meanwhile, which has ended this one."""
        with self._succeeding:
            current = self._successor is successor
            if current:
                self._successor = None
        return current

    def _welcome(self, ready: Ready) -> None:
        if self.worker.loading.residency is None:
            self._usual[self.spec.id] = ready.residency
        self.change(ready=True, precision=ready.precision, residency=ready.residency, room=ready.room, error=None)

    def _load_anew(self, loading: Loading, why: str) -> None:
        _log.info("the model %s is loaded anew: %s", loading.spec.id, why, extra={"event": "reloading"})
        self.worker.stop()
        self.worker = self._make_worker(loading)
        self.change(ready=False)

    def _beside(self, loading: Loading) -> Worker:
        """One that is loaded while the other one still takes up room, which is no reason to load it otherwise."""
        return self._make_worker(replace(loading, residency=self._usual.get(loading.spec.id, Residency())))

    def _fits_beside(self, loading: Loading) -> bool:
        """Whether the weights of both fit at once."""
        room, residency = self.state.room, loading.residency or Residency()
        new = footprint.most_resident(loading.spec, self.precision_of(loading.spec), residency)
        old = footprint.most_resident(self.spec, self.precision_of(self.spec), self.state.residency)
        return room is not None and memory.MARGIN * (new + old) <= room.available

    def _phase_recorder(self, *, keep: bool) -> Callable[[str, float], None]:
        """What to tell of each phase: on the first start they are kept, end to end."""
        last = time.monotonic()
        if keep:
            self.change(worker_phases=())

        def ended(name: str, at: float) -> None:
            nonlocal last
            if keep:
                self.change(worker_phases=(*self.state.worker_phases, self._phase(name, last, at)))
                _log.info("%s: %.2f s", name, at - last, extra={"event": "phase"})
            last = at

        return ended

    def _phase(self, name: str, start: float, end: float) -> Phase:
        return Phase(name, round(start - self._epoch, 3), round(end - start, 3))
