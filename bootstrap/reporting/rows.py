"""What all forms of a report show of a section: its phases in order, each part under its step, and some sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bootstrap.report import LOCAL, Section, Timing
from bootstrap.reporting import words
from bootstrap.reporting.words import Language

Category = Literal["network", "disk", "runs", "other"]

_WORTH_TELLING = 0.02  # of a section's time
_PIPELINE = ("download", "verify", "unpack")
_NETWORK = ("choose", "resolve", "solve", "download", "find", "wheels", "weights", "learn", "container")
_DISK = (
    *("environment", "configs", "packages", "runtime", "verify", "unpack", "link", "bytecode", "files", "current"),
    *("bundle", "sweep"),
    *("build", "inputs", "base", "app", "export"),
)
_RUNS = (
    *("checks", "python", "imports", "load", "generation", "denoise", "decode", "encode"),
    *("server", "worker imports", "model load", "warm-up", "first frame"),
)


def category(timing: Timing) -> Category:
    """What a phase mostly needs, for its colour."""
    name = _name(timing)
    if name in _NETWORK:
        return "network"
    if name in _DISK:
        return "disk"
    return "runs" if name in _RUNS else "other"


@dataclass(frozen=True)
class Row:
    """A phase as it is shown: what came in several goes is one row, with its seconds in all, and several bars."""

    timing: Timing
    goes: tuple[Timing, ...]


def phases(section: Section) -> Iterator[Row]:
    """The steps as they began, each followed by its parts."""
    tops = [timing for timing in section.timings if not timing.is_part]
    names = dict.fromkeys(timing.phase for timing in tops)
    for name in names:
        yield _row([timing for timing in tops if timing.phase == name])
        yield from _parts([part for part in section.timings if part.is_part and _step(part) == name])
    yield from _parts([part for part in section.timings if part.is_part and _step(part) not in names])


def _row(goes: Sequence[Timing]) -> Row:
    return Row(replace(goes[0], seconds=sum(timing.seconds for timing in goes)), tuple(goes))


def _parts(parts: Sequence[Timing]) -> Iterator[Row]:
    """As they began; what is done to the same bytes one after the other begins almost at once, and is kept together."""
    together = {part.phase: _PIPELINE.index(name) for part in parts if (name := _name(part)) in _PIPELINE}
    first = min((part.started for part in parts if part.phase in together), default=0.0)
    ordered = sorted(parts, key=lambda it: (first, together[it.phase]) if it.phase in together else (it.started, 0))
    for phase in dict.fromkeys(part.phase for part in ordered):
        yield _row([part for part in ordered if part.phase == phase])


def longest(section: Section, count: int = 3) -> Sequence[Timing]:
    """The steps that took longest; those that hardly count are left out."""
    steps = (row.timing for row in phases(section) if not row.timing.is_part)
    tops = sorted(steps, key=lambda timing: -timing.seconds)
    return [timing for timing in tops[:count] if timing.seconds >= _WORTH_TELLING * section.seconds]


def fetched(section: Section) -> Mapping[str, int]:
    """The bytes that came over the network, by mirror, most first. A step may repeat what its parts say."""
    total: Counter[str] = Counter()
    parts = {_step(timing) for timing in section.timings if timing.is_part and timing.sources}
    for timing in section.timings:
        if timing.phase not in parts:
            total.update({source: count for source, count in timing.sources.items() if source != LOCAL})
    return dict(total.most_common())


def retries(section: Section) -> int:
    """Requests that failed and were made up for."""
    parts = {_step(timing) for timing in section.timings if timing.is_part and timing.retries is not None}
    return sum(timing.retries or 0 for timing in section.timings if timing.phase not in parts)


def sources(timing: Timing, lang: Language) -> str:
    """Where a phase's bytes came from, who gave most first."""
    if not timing.sources:
        return timing.source or ""
    ordered = sorted(timing.sources, key=lambda source: -timing.sources[source])
    return ", ".join(words.say("local", lang) if source == LOCAL else source for source in ordered)


def _name(timing: Timing) -> str:
    return timing.phase.rpartition(".")[2]


def _step(part: Timing) -> str:
    return part.phase.partition(".")[0]
