"""What the same bytes would have cost from upstream alone, at the speed it was measured at. A prediction, never a fact.

A phase's bytes divided by that speed, and a few round trips, take the place of the seconds that its download took;
all other phases stay as they were. Where the upstream was not measured, or was no use, there is no number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bootstrap.report import LOCAL, Section, Timing, Upstream
from bootstrap.reporting import spans

_ROUND_TRIPS = 3  # until a new connection brings bytes: TCP, TLS, and the request
_FOLLOWERS = ("verify", "unpack")  # parts that wait for the download of the same step


@dataclass(frozen=True)
class Fetch:
    """What a phase fetched, and what that would have taken from its upstream.

    Attributes:
        phase: "packages", "weights".
        upstream: its name.
        bytes: that came over the network, those that mirrors were measured with included.
        seconds: that the download took.
        predicted: seconds that it would have taken; None: nobody knows.
        rate: bytes/s that the upstream was measured at.
        measured: when, in ISO 8601.
        how: the measuring, or why there is no rate.
    """

    phase: str
    upstream: str
    bytes: int
    seconds: float
    predicted: float | None
    rate: float | None
    measured: str | None
    how: str


@dataclass(frozen=True)
class Prediction:
    """For a section: the seconds that it took, and those that it would have; None where one of its parts is unknown."""

    kind: str
    seconds: float
    predicted: float | None
    fetches: tuple[Fetch, ...]


def predict(section: Section) -> Prediction | None:
    """The prediction for a section; None: nothing came over the network."""
    found = [(timing, fetch) for timing in _downloads(section) for fetch in _fetches(section, timing)]
    if not found:
        return None
    fetches = tuple(fetch for _, fetch in found)
    if any(fetch.predicted is None for fetch in fetches):
        return Prediction(section.kind, section.seconds, None, fetches)
    longer: dict[str, float] = {}
    for timing, fetch in found:  # two upstreams of one phase are asked at the same time
        delta = (fetch.predicted or 0.0) - timing.seconds
        longer[timing.phase] = max(delta, longer.get(timing.phase, delta))
    return Prediction(section.kind, section.seconds, section.seconds + _delay(section, longer), fetches)


def _downloads(section: Section) -> Iterator[Timing]:
    return (timing for timing in section.timings if timing.phase.endswith(".download"))


def _fetches(section: Section, timing: Timing) -> Iterator[Fetch]:
    phase = timing.phase.removesuffix(".download")
    known = [one for one in section.upstreams if one.phase == phase]
    others = {host for one in known for host in one.hosts}
    for one in known or [Upstream(phase, "upstream", None, None, None, "was not measured")]:
        count = one.kept + _bytes(timing.sources, one.hosts, others)
        if count:
            seconds = _ROUND_TRIPS * (one.latency or 0.0) + count / one.rate if one.rate else None
            yield Fetch(phase, one.name, count, timing.seconds, seconds, one.rate, one.measured, one.how)


def _bytes(sources: Mapping[str, int], hosts: Sequence[str], others: set[str]) -> int:
    if hosts:
        return sum(sources.get(host, 0) for host in hosts)
    return sum(count for host, count in sources.items() if host not in others and host != LOCAL)


def _delay(section: Section, longer: Mapping[str, float]) -> float:
    """By how much later the section would have ended: of downloads that overlapped, the one that is longest decides."""
    total, downloads = 0.0, [timing for timing in section.timings if timing.phase in longer]
    for start, end in spans.union(spans.of(downloads)):
        these = [timing for timing in downloads if start <= timing.started < end]
        total += max(max(longer[it.phase], -_alone(section, it, longer)) for it in these)
    return total


def _alone(section: Section, download: Timing, downloads: Collection[str]) -> float:
    """Seconds of a download in which nothing else was done: no more than those can be saved."""
    step = download.phase.rpartition(".")[0]
    waiting = {step, *(f"{step}.{name}" for name in _FOLLOWERS)}
    parents = {timing.phase.partition(".")[0] for timing in section.timings if timing.is_part}
    others = [it for it in section.timings if it.phase not in downloads and it.phase not in waiting | parents]
    beside = ((max(download.started, start), min(download.ended, end)) for start, end in spans.of(others))
    return download.seconds - spans.seconds(beside)
