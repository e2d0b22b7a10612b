"""Calls that may hang in the kernel, such as a look at a network file system whose server is gone, given up in time.

A thread cannot be ended; one that hangs is left behind, and does not keep the process from ending.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def gather(calls: Mapping[Key, Callable[[], Value]], patience: float) -> dict[Key, Value]:
    """The results of those calls, all begun at once, that have one within `patience` seconds; an OSError is none."""
    done: queue.SimpleQueue[tuple[Key, list[Value]]] = queue.SimpleQueue()

    def run(key: Key, call: Callable[[], Value]) -> None:
        found: list[Value] = []
        try:
            with suppress(OSError):
                found.append(call())
        finally:
            done.put((key, found))

    for key, call in calls.items():
        threading.Thread(target=run, args=(key, call), daemon=True).start()
    results: dict[Key, Value] = {}
    deadline = time.monotonic() + patience
    with suppress(queue.Empty):
        for _ in calls:
            key, found = done.get(timeout=max(deadline - time.monotonic(), 0.0))
            if found:
                results[key] = found[0]
    return results
