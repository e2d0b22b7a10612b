"""Requests that other threads can end at once, and pauses that end with them.

A thread's requests belong to the `Calls` that it follows. Knows nothing of what is asked.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar, copy_context

from mirrors.interrupt import Interrupted
from mirrors.line import Line

TRIES = 5  # of a request that fails in a way that passes
_LONGEST_WAIT = 60.0  # seconds between two of them, whatever the registry asks for

_current: ContextVar[Calls | None] = ContextVar("i2v-calls", default=None)


class Calls:
    """The requests of some threads. Each of them calls `follow` once; any other may call `end`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: set[Line] = set()
        self._over = threading.Event()

    def follow(self) -> None:
        """From now on the requests of the calling thread are among these."""
        _current.set(self)

    def end(self) -> None:
        """Hang up on all of them, and on each that would still begin."""
        with self._lock:
            self._over.set()
            for line in self._lines:
                line.hang_up()

    def begin(self, line: Line) -> None:
        """A request begins."""
        with self._lock:
            if self._over.is_set():
                raise Interrupted
            self._lines.add(line)

    def finish(self, line: Line) -> None:
        """It is over."""
        with self._lock:
            self._lines.discard(line)

    def wait(self, seconds: float) -> None:
        """Do nothing for a while."""
        if self._over.wait(seconds):
            raise Interrupted


def pause(seconds: float) -> None:
    """Do nothing for a while, unless the calls of this thread are ended."""
    calls = _current.get()
    if calls is None:
        time.sleep(seconds)
    else:
        calls.wait(seconds)


def wait_before(tried: int, asked: float | None) -> None:
    """Do nothing for a while before another try: for as long as the registry asks, else longer each time."""
    pause(min(0.5 * 2**tried if asked is None else asked, _LONGEST_WAIT))


class Call:
    """A request under way, which others can hang up on: in a context, so on a line, of its own."""

    def __init__(self) -> None:
        self.context = copy_context()
        self._calls = _current.get()
        self._line = Line()
        self.context.run(self._line.follow)
        if self._calls is not None:
            self._calls.begin(self._line)

    def finish(self) -> None:
        """It is over."""
        self._line.let_go()
        if self._calls is not None:
            self._calls.finish(self._line)
