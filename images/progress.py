"""Follows what buildx says while it builds: lines for people, phases with their seconds, and what failed.

Reads buildx's `--progress=rawjson`; text that is no JSON is passed on as it is, so an older buildx is followed too,
without phases. Starts no process.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from images.spec import Phase
from mirrors.urls import redact

_KEPT_LINES = 40
_STAGE = re.compile(r"\[(\w+) +\d+/\d+\] ")
_MOUNT = re.compile(r"\s+--mount=\S+")
_HEREDOC = re.compile(r" *<<\w+ \(.*\)$", re.DOTALL)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?")
# What a step is about, by how its name begins; any other step is about its stage.
_PHASES = (
    ("[locks", "packages"),
    ("[internal] load metadata", "base"),
    ("[internal]", "context"),
    ("[context", "context"),
    ("exporting", "export"),
    ("importing", "export"),
    ("sending", "export"),
)


@dataclass
class _Step:
    """One vertex of the build graph."""

    name: str
    started: float | None = None
    completed: float | None = None
    cached: bool = False
    error: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    @property
    def phase(self) -> str:
        stage = _STAGE.match(self.name)
        named = (phase for start, phase in _PHASES if self.name.startswith(start))
        return next(named, stage[1] if stage else "other")

    @property
    def title(self) -> str:
        return _HEREDOC.sub("", _MOUNT.sub("", self.name))


@dataclass(frozen=True)
class Failure:
    """The step that failed ("" if none is known), and the last that it and buildx said."""

    step: str
    lines: tuple[str, ...]


class Progress:
    """What is known of a running build. Feed it the lines of buildx's output, in order."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._steps: dict[str, _Step] = {}
        self._text: deque[str] = deque(maxlen=_KEPT_LINES)
        self._pending = ""

    def feed(self, line: str) -> None:
        """Take one line: a whole JSON document, a piece of one that is spread over lines, or plain text."""
        if not self._pending and not line.startswith("{"):
            self._say(self._text, line)
            return
        self._pending += line
        # buildx 0.13 indents its documents, later ones write each on one line.
        if line.rstrip() == "}" or self._pending == line:
            try:
                document = json.loads(self._pending)
            except ValueError:
                return
            self._pending = ""
            self._take(document)

    def phases(self) -> tuple[Phase, ...]:
        """The parts of the build in the order they began, counted from the first sign of it."""
        spans: dict[str, list[tuple[float, float]]] = {}
        for step in self._steps.values():
            if step.started is not None:
                spans.setdefault(step.phase, []).append((step.started, step.completed or step.started))
        zero = min((start for phase in spans.values() for start, _ in phase), default=0.0)
        phases = (_phase(name, phase, zero) for name, phase in spans.items())
        return tuple(sorted(phases, key=lambda phase: phase.started))

    def failure(self) -> Failure:
        """What is known of why the build ended early."""
        for step in self._steps.values():
            # Steps that were only called off because another one failed say nothing.
            if step.error and "context canceled" not in step.error:
                return Failure(step.name, (*step.lines, step.error.splitlines()[0]))
        return Failure("", tuple(self._text))

    def _take(self, document: dict[str, Any]) -> None:
        for vertex in document.get("vertexes") or ():
            step = self._steps.setdefault(vertex["digest"], _Step(vertex["name"]))
            self._update(step, vertex)
        for log in document.get("logs") or ():
            for line in base64.b64decode(log["data"]).decode(errors="replace").splitlines():
                self._say(self._steps[log["vertex"]].lines, line)

    def _update(self, step: _Step, vertex: dict[str, Any]) -> None:
        if step.started is None and vertex.get("started"):
            step.started = _seconds(vertex["started"])
        if vertex.get("completed"):
            announced = step.completed is not None
            step.completed = _seconds(vertex["completed"])
            step.cached = vertex.get("cached", False)
            if not announced and step.phase != "context":
                took = "cached" if step.cached else f"{step.completed - (step.started or step.completed):.1f} s"
                self._on_line(redact(f"{step.title}  {took}"))
        step.error = redact(vertex.get("error") or step.error)

    def _say(self, kept: deque[str], line: str) -> None:
        if line := redact(line.rstrip()):
            kept.append(line)
            self._on_line(line)


def _phase(name: str, spans: Sequence[tuple[float, float]], zero: float) -> Phase:
    started, ended = min(start for start, _ in spans), max(end for _, end in spans)
    return Phase(name, started - zero, ended - started, _busy(spans))


def _busy(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans was under way."""
    busy, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy


def _seconds(timestamp: str) -> float:
    """Seconds since the epoch of a UTC timestamp, which may have nine decimals."""
    match = _TIME.match(timestamp)
    if not match:
        raise ValueError(f"not a timestamp: {timestamp}")
    whole = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return whole.timestamp() + float(match[2] or 0)
