"""A registry that gets stuck in the middle of a large blob."""

from __future__ import annotations

import threading

from tests.images.registries import Answers, ScriptedRegistry


class Stuck:
    """Takes a little of a large blob, or all of it, and then does nothing till `go_on`; small ones are taken."""

    def __init__(self, registry: ScriptedRegistry, take: int | None, larger_than: int = 10 << 20) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._registry = registry
        self._take = take
        self._larger_than = larger_than
        registry.before = self._answer

    def _answer(self, handler: Answers) -> bool:
        if handler.command != "PUT" or handler.take < self._larger_than:
            return False
        list(handler.body(self._take))
        self.begun.set()
        self.go_on.wait()
        raise handler.reset()

    def wait(self, blobs: int) -> None:
        """Till the large blob is under way, and so many small ones are there."""
        self.begun.wait()
        while len(self._registry.blobs) < blobs:
            self.go_on.wait(0.02)
