"""When the command that runs began, for its timing report: a user waits for Python's own start too."""

from __future__ import annotations

import time
from contextvars import ContextVar

from runtime.timing import process_started

_BEGAN: ContextVar[float | None] = ContextVar("began", default=None)


def own_process() -> None:
    """This process was started for the command, which therefore began when the process did."""
    _BEGAN.set(process_started())


def began() -> float:
    """The monotonic time at which the command began; now, where the process is somebody else's (a test's)."""
    known = _BEGAN.get()
    return time.monotonic() if known is None else known
