"""One run of `docker buildx build`: followed line by line, ended with us, explained where it fails.

Nothing that may be secret is given to it. Knows no image, only a command line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from images.errors import ImageError
from images.failures import explain
from images.progress import Progress
from mirrors import hub_token

_STOP_SECONDS = 10


def run(arguments: Sequence[str], progress: Progress, timeout: float | None) -> None:
    """Run a build to its end. Interrupted, it ends the build; what was built is kept for the next time.

    Args:
        arguments: The whole command line.
        progress: Gets each line of the output.
        timeout: Seconds after which to give up.

    Raises:
        ImageError: The build failed; the message says why, the hint what to do.
    """
    with _process(arguments) as process, _deadline(process, timeout) as passed:
        assert process.stdout
        for line in process.stdout:
            progress.feed(line)
        code = process.wait()
    if code == 0:
        return
    if passed.is_set():
        raise ImageError(f"the build was given up after {timeout:.0f} s", "build again: what was built is kept")
    raise explain(progress.failure())


@contextmanager
def _deadline(process: subprocess.Popen[str], seconds: float | None) -> Iterator[threading.Event]:
    """Ends the process after `seconds`, if it still runs; the event tells that it did."""
    passed = threading.Event()

    def give_up() -> None:
        passed.set()
        _end(process)

    timer = threading.Timer(seconds or 0, give_up)
    if seconds:
        timer.start()
    try:
        yield passed
    finally:
        timer.cancel()


@contextmanager
def _process(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, so that Ctrl-C reaches us alone and we end all of it."""
    with subprocess.Popen(
        arguments,
        env={name: value for name, value in os.environ.items() if name not in hub_token.VARIABLES},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt what still runs, and kill what does not heed that."""
    for number, patience in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(patience)
