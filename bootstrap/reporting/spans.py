"""Arithmetic of phases that overlap. A section's top-level phases should cover its wall time; how far they do."""

from __future__ import annotations

from collections.abc import Iterable

from bootstrap.report import Section, Timing

Span = tuple[float, float]


def union(spans: Iterable[Span]) -> list[Span]:
    """The same moments in spans that neither touch nor overlap, in order."""
    joined: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def seconds(spans: Iterable[Span]) -> float:
    """How long at least one of them lasted."""
    return sum(end - start for start, end in union(spans))


def of(timings: Iterable[Timing]) -> list[Span]:
    """The phases' spans."""
    return [(timing.started, timing.ended) for timing in timings]


def covered(section: Section) -> float:
    """Seconds of the section in which at least one of its top-level phases was under way."""
    tops = of(timing for timing in section.timings if not timing.is_part)
    return seconds((max(0.0, start), min(section.seconds, end)) for start, end in tops)
