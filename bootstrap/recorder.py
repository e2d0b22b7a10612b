"""Records where the time of one command goes, while it goes.

Knows the clock and what a fetch says of its files; nothing of how it is kept or shown.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from bootstrap import startup, upstreams
from bootstrap.report import File, Flow, ImageLayer, Section, Timing, Upstream
from mirrors.artifact import FLOW_SECONDS, Fetched, Times

if TYPE_CHECKING:
    from mirrors.choose import Choice
    from mirrors.fetch import Downloads

_SLOTS = 1000  # at most, of what is kept of a fetch that takes hours


@dataclass
class Measured:
    """What a phase may say of itself while it runs; as for Timing."""

    bytes: int | None = None
    source: str | None = None
    sources: Mapping[str, int] = field(default_factory=dict)
    retries: int | None = None


class Recorder:
    """Collects the timings of one section. Several threads may record at once."""

    def __init__(self, kind: str, **facts: str) -> None:
        self.kind = kind
        self.facts = facts
        self.layers: tuple[ImageLayer, ...] = ()
        self._zero = startup.began()
        self._began = datetime.fromtimestamp(time.time() - self.elapsed, timezone.utc)
        self._timings: list[Timing] = []
        self._files: list[File] = []
        self._flows: list[Flow] = []
        self._upstreams: list[Upstream] = []
        self._adding = threading.Lock()
        if (already := self.elapsed) > 0.001:  # it began before us, with the process
            self.add(Timing("start", "start i2v-setup", 0.0, already))

    @property
    def elapsed(self) -> float:
        """Seconds since the section began."""
        return time.monotonic() - self._zero

    @contextmanager
    def phase(self, phase: str, title: str) -> Iterator[Measured]:
        """Time the block; nothing is recorded if it fails."""
        started, measured = self.elapsed, Measured()
        yield measured
        seconds = self.elapsed - started
        told = (measured.bytes, measured.source, measured.sources, measured.retries)
        self.add(Timing(phase, title, started, seconds, *told))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The block's time does not count: a person is asked something. No phase may be under way."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._zero += time.monotonic() - began

    def add(self, timing: Timing) -> None:
        """Take over a phase that was measured elsewhere, in a child process say."""
        with self._adding:
            self._timings.append(timing)

    def at(self, monotonic: float) -> float:
        """A time of the monotonic clock, counted from the section's start."""
        return monotonic - self._zero

    def fetched(self, phase: str, downloads: Downloads) -> None:
        """Take over what was fetched for a phase: its parts `download` and `verify`, the files, what came when."""
        files = downloads.fetched
        coming = [(file, file.times) for file in files if file.times is not None and file.times.first is not None]
        checked = [file.times for file in files if file.times is not None and file.times.checked is not None]
        if coming:
            self.add(self._download(phase, coming))
        if checked:
            self.add(self._verify(phase, checked))
        with self._adding:
            self._files += (self._file(phase, file, times) for file, times in coming)
            self._flows += self._flow(phase, downloads.flow)

    def _download(self, phase: str, coming: Sequence[tuple[Fetched, Times]]) -> Timing:
        started = min(times.begun for _, times in coming)
        ended = max(times.last or times.begun for _, times in coming)
        sources: Counter[str] = Counter()
        for file, _ in coming:
            sources.update(file.per_source)
        return Timing(
            f"{phase}.download",
            f"download {_files(len(coming))}",
            self.at(started),
            ended - started,
            sources.total(),
            sources=dict(sources.most_common()),
            retries=sum(file.retries for file, _ in coming),
        )

    def _verify(self, phase: str, checked: Sequence[Times]) -> Timing:
        started = min(times.checked or times.begun for times in checked)
        ended = max(times.ended for times in checked)
        busy = sum(times.hashing for times in checked)
        return Timing(f"{phase}.verify", f"verify {_files(len(checked))}", self.at(started), ended - started, busy=busy)

    def _file(self, phase: str, file: Fetched, times: Times) -> File:
        return File(
            phase,
            file.artifact.name,
            self.at(times.begun),
            self.at(times.first or times.begun),
            self.at(times.last or times.begun),
            self.at(times.ended),
            file.bytes_fetched,
            dict(file.per_source),
            file.retries,
        )

    def _flow(self, phase: str, flow: Mapping[str, Mapping[float, int]]) -> Iterator[Flow]:
        """Each mirror's, in slots that are the wider the longer it all took."""
        moments = [moment for slots in flow.values() for moment in slots]
        lasted = max(moments, default=0.0) - min(moments, default=0.0)
        step = FLOW_SECONDS * (1 + int(lasted / FLOW_SECONDS / _SLOTS))
        for source, slots in flow.items():
            given: Counter[int] = Counter()
            for moment, count in slots.items():
                given[int(moment / step)] += count
            first, last = min(given), max(given)
            yield Flow(phase, source, self.at(first * step), step, tuple(given[at] for at in range(first, last + 1)))

    def chose(self, phase: str, *choices: Choice) -> None:
        """Keep what the upstreams of a phase's bytes were measured at; the first choice is for what is of no other."""
        found = upstreams.told(phase, choices)
        with self._adding:
            self._upstreams += found

    def section(self) -> Section:
        """What was recorded so far."""
        with self._adding:
            timings = tuple(sorted(self._timings, key=lambda timing: (timing.started, -timing.seconds)))
            files = tuple(sorted(self._files, key=lambda file: file.started))
            lists = (timings, dict(self.facts), files, tuple(self._flows), tuple(self._upstreams), self.layers)
        return Section(self.kind, self._began.isoformat(timespec="milliseconds"), self.elapsed, *lists)


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"
