"""Says now and then how much of something went out, and how fast. Knows nothing of what or where to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_EVERY_SECONDS = 2.0


class Rate:
    """Counts bytes, from any thread, and says so every two seconds."""

    def __init__(self, what: str, on_line: Callable[[str], None]) -> None:
        """Begin to count.

        Args:
            what: What happens to the bytes, such as "sent".
            on_line: Gets the lines.
        """
        self._what = what
        self._on_line = on_line
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()
        self._count = 0
        self._total = 0

    def expect(self, size: int) -> None:
        """How many bytes there will be in all."""
        self._total = size

    def __call__(self, size: int) -> None:
        """Count `size` more bytes; a negative number takes some back."""
        with self._lock:
            self._count += size
            now = time.monotonic()
            if now - self._said < _EVERY_SECONDS:
                return
            self._said = now
            of = f" of {self._total / 1e6:.0f}" if self._total else ""
            rate = self._count / 1e6 / (now - self._began)
            line = f"{self._what}: {self._count / 1e6:.0f}{of} MB, {rate:.0f} MB/s"
        self._on_line(line)
