"""A worker that is made ready beside the one that serves, to take its place. Knows nothing of when that is."""

import logging
import threading
from collections.abc import Callable

from runtime.messages import Ready
from runtime.problems import RuntimeProblem
from runtime.worker import Loading, Worker

_log = logging.getLogger(__name__)


class Successor:
    """The worker, and how far it is.

    Attributes:
        loading: What was asked for.
        worker: Its handle; nobody else uses it before it is ready.
        begun: Whether `begin` was called.
        ready: What it said when it could take tasks; None: not yet.
        problem: Why it cannot.
    """

    def __init__(self, loading: Loading, worker: Worker, on_change: Callable[[], None]) -> None:
        """`on_change` is called from another thread when `ready` or `problem` is there."""
        self.loading = loading
        self.worker = worker
        self.begun = False
        self.ready: Ready | None = None
        self.problem: RuntimeProblem | None = None
        self._on_change = on_change

    def begin(self) -> None:
        """Starts it, in the background."""
        self.begun = True
        threading.Thread(target=self._start, name="successor", daemon=True).start()

    def _start(self) -> None:
        try:
            self.ready = self.worker.start(lambda *_: None, warm_up=True)
        except RuntimeProblem as problem:
            self.problem = problem
        except Exception as error:  # noqa: BLE001 - the thread has nobody to tell but us
            _log.exception("the next worker cannot be started")
            self.problem = RuntimeProblem(f"{type(error).__name__}: {error}")
        self._on_change()
