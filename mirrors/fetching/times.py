"""When what became of a file, for timing reports. Knows nothing of what is done with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mirrors.artifact import Times


class Clock:
    """One file's: begins when it is made. Blocks may come in on several threads, everything else happens on one."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: float | None = None
        self._last: float | None = None
        self._checked: float | None = None
        self._verified: float | None = None
        self._hashing = 0.0

    def block_came(self) -> None:
        """Bytes came in just now."""
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last

    @contextmanager
    def hashing(self) -> Iterator[None]:
        """The block works at the file's sha256."""
        began = time.monotonic()
        self._checked = self._checked or began
        yield
        self._verified = time.monotonic()
        self._hashing += self._verified - began

    def times(self) -> Times:
        """All of it, now that the file is in the store."""
        ended = time.monotonic()
        return Times(self._begun, self._first, self._last, self._checked, self._verified, ended, self._hashing)
