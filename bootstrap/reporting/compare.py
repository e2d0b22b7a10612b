"""Two deployments side by side: each phase's seconds, the bytes and the mirrors, and by how much they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bootstrap.report import Deployment, Section, Timing
from bootstrap.reporting import rows

_Both = tuple[float | None, float | None]


@dataclass(frozen=True)
class Line:
    """A phase in both; None where there was none. `example` has its title."""

    example: Timing
    seconds: _Both

    @property
    def difference(self) -> float | None:
        """Seconds that the second took longer; None where one is missing."""
        return difference(self.seconds)


@dataclass(frozen=True)
class Pair:
    """The same kind of section in both deployments; one of them may lack it."""

    kind: str
    first: Section | None
    second: Section | None
    lines: tuple[Line, ...]

    @property
    def seconds(self) -> _Both:
        """Of each as a whole."""
        return _seconds(self.first), _seconds(self.second)

    @property
    def bytes(self) -> Mapping[str, tuple[int, int]]:
        """What came from each mirror in both."""
        first, second = (rows.fetched(one) if one else {} for one in (self.first, self.second))
        return {source: (first.get(source, 0), second.get(source, 0)) for source in {**first, **second}}


ALIKE = 0.05  # seconds: a smaller difference is chance, and its percentage says nothing


def difference(both: _Both) -> float | None:
    """By how much the second is more; None where one is missing."""
    first, second = both
    return None if first is None or second is None else second - first


def percent(both: _Both) -> float | None:
    """The same in percent of the first; None where it is too little to tell."""
    first, more = both[0], difference(both)
    return None if not first or more is None or abs(more) < ALIKE else 100 * more / first


def pairs(first: Deployment, second: Deployment) -> Iterator[Pair]:
    """The sections by their kinds, in the order of the first deployment."""
    ours, theirs = ({section.kind: section for section in it.sections} for it in (first, second))
    for kind in {**ours, **theirs}:
        yield Pair(kind, ours.get(kind), theirs.get(kind), tuple(_lines(ours.get(kind), theirs.get(kind))))


def _lines(first: Section | None, second: Section | None) -> Iterator[Line]:
    ours, theirs = (_by_phase(one) for one in (first, second))
    for phase in _merged(list(ours), list(theirs)):
        both = (ours.get(phase), theirs.get(phase))
        example = both[1] or both[0]
        assert example is not None
        yield Line(example, (_seconds(both[0]), _seconds(both[1])))


def _seconds(one: Section | Timing | None) -> float | None:
    return None if one is None else one.seconds


def _by_phase(section: Section | None) -> dict[str, Timing]:
    return {row.timing.phase: row.timing for row in rows.phases(section)} if section else {}


def _merged(ours: list[str], theirs: list[str]) -> list[str]:
    """All names: in our order, and what only they have behind what it follows there."""
    merged = list(ours)
    for place, name in enumerate(theirs):
        if name not in merged:
            before = next((earlier for earlier in reversed(theirs[:place]) if earlier in merged), None)
            merged.insert(merged.index(before) + 1 if before is not None else 0, name)
    return merged


def as_document(first: Deployment, second: Deployment) -> dict[str, Any]:
    """The comparison as data; seconds and bytes, what is missing is null."""
    return {"first": first.id, "second": second.id, "sections": [_document(pair) for pair in pairs(first, second)]}


def _document(pair: Pair) -> dict[str, Any]:
    return {
        "kind": pair.kind,
        **_numbers(pair.seconds),
        "facts": [dict(one.facts) if one else None for one in (pair.first, pair.second)],
        "retries": [rows.retries(one) if one else None for one in (pair.first, pair.second)],
        "bytes": {source: list(both) for source, both in pair.bytes.items()},
        "phases": [{"phase": line.example.phase, **_numbers(line.seconds)} for line in pair.lines],
    }


def _numbers(both: _Both) -> dict[str, Any]:
    return {"seconds": list(both), "difference": difference(both), "percent": percent(both)}
