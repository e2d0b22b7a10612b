"""To end, from another thread, a wait that no timeout would end soon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """Somebody called Interrupt.cut."""


class Interrupt:
    """One thread waits within `ends(how)`; another calls `cut()`, now or before, and `how` is called once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._how: Callable[[], None] | None = None
        self._cut = False

    @contextmanager
    def ends(self, how: Callable[[], None]) -> Iterator[None]:
        """While this block runs, `how` ends its wait. It is never called after the block."""
        with self._lock:
            if self._cut:
                raise Interrupted
            self._how = how
        try:
            yield
        finally:
            with self._lock:
                self._how = None

    def cut(self) -> None:
        """End the wait, and every later one."""
        with self._lock:
            if not self._cut and self._how is not None:
                self._how()
            self._cut = True

    @property
    def is_cut(self) -> bool:
        """Whether it was called."""
        return self._cut
