"""The parent's handle of the process that owns the model: starts it, talks to it, notices at once when it is gone.

The parent never imports torch: the process is forked from a forkserver that has everything imported, so a killed one
is back as fast as its weights load. A CUDA error, an out-of-memory kill or a segfault costs what it was at and never
the parent. The process itself is `runtime.worker_process`. Knows nothing of jobs or of HTTP.
"""

import contextlib
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from runtime import worker_process
from runtime.footprint import Residency
from runtime.messages import Answer, Cancel, Failed, PhaseEnded, Ready, Request
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.problems import RuntimeProblem

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["runtime.preload"])

#: How long a worker may take to go once it was told to.
_STOP_SECONDS = 3.0


class WorkerDied(RuntimeProblem):
    """The worker process ended in the middle of something."""


@dataclass(frozen=True)
class Loading:
    """What a worker loads, and how.

    Attributes:
        spec: The model.
        directory: Where its files lie.
        precision: What to compute in; None takes what suits the device.
        residency: Where the weights wait; None: where the standard preset needs them to, if it does.
        compiled: Whether to compile the denoiser's blocks.
    """

    spec: ModelSpec
    directory: Path
    precision: Arithmetic | None = None
    residency: Residency | None = None
    compiled: bool = False


class Worker:
    """One worker process at a time. `cancel` and `kill` may come from any thread, the rest from one."""

    def __init__(self, loading: Loading) -> None:
        self.loading = loading
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._sending = threading.Lock()

    @property
    def waitables(self) -> tuple[Connection, int]:
        """For `multiprocessing.connection.wait`: what becomes readable with a message, and when the process is gone."""
        assert self._connection is not None
        assert self._process is not None
        return self._connection, self._process.sentinel

    def start(self, on_phase: Callable[[str, float], None], *, warm_up: bool) -> Ready:
        """Starts a process in place of the last one and waits until it can take tasks.

        Args:
            on_phase: Told the name of each phase and the monotonic time at which it ended.
            warm_up: Whether it makes a small video first, so that no user pays for first times.

        Raises:
            WorkerDied: It ended before it was ready.
            RuntimeProblem: It said why it cannot.
        """
        self.stop()
        self._connection, theirs = _CONTEXT.Pipe()
        arguments = (theirs, self.loading, warm_up)
        self._process = _CONTEXT.Process(target=worker_process.serve, args=arguments, name="worker", daemon=True)
        self._process.start()
        theirs.close()  # ours alone must be open, or its end would never be noticed
        while True:
            answer = self.receive()
            if isinstance(answer, Ready):
                return answer
            if isinstance(answer, PhaseEnded):
                on_phase(answer.name, answer.ended)
            elif isinstance(answer, Failed):
                raise RuntimeProblem(answer.message, answer.hint)

    def send(self, message: Request) -> None:
        """Says something to the process.

        Raises:
            WorkerDied: It is gone.
        """
        with self._sending:
            try:
                assert self._connection is not None
                self._connection.send(message)
            except OSError:
                raise self._died() from None

    def receive(self) -> Answer:
        """Waits for the next thing that it says.

        Raises:
            WorkerDied: It is gone, and everything that it said was received.
        """
        try:
            assert self._connection is not None
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        return answer

    def cancel(self, token: str) -> None:
        """Asks the task of this token to stop at its next step."""
        with contextlib.suppress(WorkerDied, AssertionError):  # then there is nothing left to stop
            self.send(Cancel(token))

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
        """Ends the process at once, so that whoever waits for it gets WorkerDied."""
        process = self._process
        if process and process.pid:
            process.kill()

    def _died(self) -> WorkerDied:
        assert self._process is not None
        self._process.join(_STOP_SECONDS)
        status = self._process.exitcode
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return WorkerDied(f"the worker process ended unexpectedly ({how})", "it is replaced by itself")
