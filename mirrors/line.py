"""The connection that a request is using, so that another thread can hang up on it.

A request that nobody waits for any more would else go on for as long as its server likes. Knows nothing of HTTP.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import Protocol

# Once closed, the connection is reset; a server that is sending could else take a minute to see that nobody listens.
_AT_ONCE = struct.pack("ii", 1, 0)

_followed: ContextVar[Line | None] = ContextVar("i2v-line", default=None)


class _Connection(Protocol):
    def fileno(self) -> int:
        """Its number, with which the system knows it."""


class Line:
    """One request's connection; over redirects, the latest one.

    The thread that makes the request calls `follow`; what opens and keeps connections there calls this module's `hold`
    and `let_go`. Who waits for the answer in another thread calls `hang_up` or, when it came, `let_go`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copy: socket.socket | None = None  # our own: the number of theirs may soon be another's
        self._hung_up = False

    def follow(self) -> None:
        """From now on the connections of the calling thread are this line's."""
        _followed.set(self)

    def hold(self, connection: _Connection) -> None:
        """The request goes on with this connection. If it is not wanted any more, that is shut down at once."""
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._drop()
            self._copy = copy
            if self._hung_up:
                self._shut_down()

    def let_go(self) -> None:
        """The connection is somebody else's from now on."""
        with self._lock:
            self._drop()

    def hang_up(self) -> None:
        """End the request, wherever it is: its connection is shut down, and so is each that it may still open."""
        with self._lock:
            self._hung_up = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._copy is not None:
            with suppress(OSError):  # the other end was faster
                self._copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                self._copy.shutdown(socket.SHUT_RDWR)
        self._drop()

    def _drop(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None


def hold(connection: _Connection) -> None:
    """The request of this thread, if somebody may want to hang up on it, goes on with this connection."""
    line = _followed.get()
    if line is not None:
        line.hold(connection)


def let_go() -> None:
    """The request of this thread is done with its connection."""
    line = _followed.get()
    if line is not None:
        line.let_go()
