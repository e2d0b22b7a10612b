"""Times the phases of one piece of work. Knows nothing of what it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from images.spec import Phase


@dataclass
class Clock:
    """The phases so far, in seconds from the start."""

    began: float = field(default_factory=time.monotonic)
    phases: list[Phase] = field(default_factory=list)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase that lasts as long as the block."""
        started = self.now
        yield
        self.phases.append(Phase(name, started, self.now - started, self.now - started))

    def add(self, phases: Iterable[Phase], offset: float) -> None:
        """Phases that somebody else timed, from `offset` on."""
        self.phases += (replace(phase, started=offset + phase.started) for phase in phases)
