"""Where the time of a deployment went: recorded while it happens, kept as JSON, shown as a table or a page.

A deployment begins with an install or an image build; what follows on it (a generation, a server start) is added to
it as a section of its own. Times are seconds of the monotonic clock, counted from the section's start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from filelock import FileLock

from bootstrap.errors import SetupError
from bootstrap.state import Home, writable

OPENING = ("install", "build-image")  # the sections that begin a deployment


@dataclass(frozen=True)
class Timing:
    """One phase: when it started, how long it took, and what it moved from where."""

    phase: str
    title: str
    started: float
    seconds: float
    bytes: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class Section:
    """One command's phases, with the facts that a reader needs to judge them (model, mirror, image, …)."""

    kind: str
    began: str
    seconds: float
    timings: tuple[Timing, ...]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """All sections of one deployment, oldest first."""

    id: str
    sections: tuple[Section, ...]

    @property
    def model(self) -> str | None:
        """The model that was deployed last."""
        return next((s.facts["model"] for s in reversed(self.sections) if "model" in s.facts), None)


@dataclass
class Measured:
    """What a phase may say of itself while it runs."""

    bytes: int | None = None
    source: str | None = None


class Recorder:
    """Collects the timings of one section."""

    def __init__(self, kind: str, **facts: str) -> None:
        self.kind = kind
        self.facts = facts
        self._began = datetime.now(timezone.utc)
        self._zero = time.monotonic()
        self._timings: list[Timing] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the section began."""
        return time.monotonic() - self._zero

    @contextmanager
    def phase(self, phase: str, title: str) -> Iterator[Measured]:
        """Time the block; nothing is recorded if it fails."""
        started, measured = self.elapsed, Measured()
        yield measured
        self.add(Timing(phase, title, started, self.elapsed - started, measured.bytes, measured.source))

    def add(self, timing: Timing) -> None:
        """Take over a phase that was measured elsewhere, in a child process say."""
        self._timings.append(timing)

    def section(self) -> Section:
        """What was recorded so far."""
        timings = tuple(sorted(self._timings, key=lambda timing: timing.started))
        return Section(self.kind, self._began.isoformat(timespec="seconds"), self.elapsed, timings, dict(self.facts))


def save(home: Home, section: Section) -> Deployment:
    """Store a section: an install or a build begins a new deployment, others replace their like in the last one."""
    with FileLock(writable(home.deployments) / ".lock"):  # a generation and a server may end at once
        return _save(home, section)


def _save(home: Home, section: Section) -> Deployment:
    last = None if section.kind in OPENING else find_last(home)
    if last is None:
        deployment = Deployment(datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S-%f"), (section,))
    else:
        others = tuple(s for s in last.sections if s.kind != section.kind)
        deployment = replace(last, sections=(*others, section))
    path = home.deployments / f"{deployment.id}.json"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(to_json(deployment), encoding="utf-8")
    temporary.replace(path)
    return deployment


def find_last(home: Home) -> Deployment | None:
    """The newest deployment that can be read, if there is one."""
    for path in sorted(home.deployments.glob("*.json"), reverse=True):
        try:
            return _from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return None


def last(home: Home) -> Deployment:
    """The newest deployment.

    Raises:
        SetupError: nothing was deployed yet.
    """
    deployment = find_last(home)
    if deployment is None:
        raise SetupError("there is no deployment to report on yet", "run `i2v-setup install` first")
    return deployment


def to_json(deployment: Deployment) -> str:
    """The deployment as a JSON document."""
    return json.dumps(asdict(deployment), indent=2)


def _from_json(data: Mapping[str, Any]) -> Deployment:
    sections = (
        Section(**{**section, "timings": tuple(Timing(**timing) for timing in section["timings"])})
        for section in data["sections"]
    )
    return Deployment(data["id"], tuple(sections))
