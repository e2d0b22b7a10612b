"""Where the time of a deployment went: all that is known of it.

A deployment begins with an install or an image build; what follows on it (a generation, a server start) is added to
it as a section of its own. Times are seconds of the monotonic clock, counted from the section's start, which is the
start of the process where that is ours. Phases overlap where the work did: a phase without a dot in its name is a step
of the plan, one with a dot (packages.download) a part of that step.

How it is recorded, `bootstrap.recorder` knows; where it is kept, `bootstrap.deployments`; how it is shown,
`bootstrap.reporting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LOCAL = "local"  # the source of what came from a directory of this machine


@dataclass(frozen=True)
class Timing:
    """One phase.

    Attributes:
        phase: its name.
        title: the same for people, with what is special this time ("find 55 wheels").
        started: when.
        seconds: from its start to its end, whatever else went on meanwhile.
        bytes: that it moved.
        source: where from, in words, where no bytes were counted.
        sources: the bytes that each mirror gave.
        retries: requests that failed and were made up for.
        busy: the seconds of work in it, on all threads together, where it was done bit by bit beside other work.
    """

    phase: str
    title: str
    started: float
    seconds: float
    bytes: int | None = None
    source: str | None = None
    sources: Mapping[str, int] = field(default_factory=dict)
    retries: int | None = None
    busy: float | None = None

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.started + self.seconds

    @property
    def is_part(self) -> bool:
        """Whether it is a part of another phase."""
        return "." in self.phase


@dataclass(frozen=True)
class File:
    """One file that was fetched: its turn came, its first and last byte came in, it was verified and in the store."""

    phase: str
    name: str
    started: float
    first: float
    last: float
    ended: float
    bytes: int
    sources: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class Flow:
    """What came from a mirror when: `bytes` in one slot of `step` seconds after the other, from `started` on."""

    phase: str
    source: str
    started: float
    step: float
    bytes: tuple[int, ...]


@dataclass(frozen=True)
class Upstream:
    """What the place where a phase's bytes are published was measured to give, when the mirrors were chosen.

    Attributes:
        phase: whose bytes.
        name: of the upstream.
        rate: bytes/s; None: it is not known.
        latency: seconds to the first byte of an answer.
        measured: when, in ISO 8601; None: it never was.
        how: what was read from it, or why it was not measured.
        kept: bytes that came with the measuring, of all mirrors: they count among those that were fetched.
        hosts: whose bytes these are, where a phase has several upstreams; empty: all that are not another's.
    """

    phase: str
    name: str
    rate: float | None
    latency: float | None
    measured: str | None
    how: str
    kept: int = 0
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageLayer:
    """A layer of an image: its digest, its size, what it holds, and how the other side came to have it."""

    digest: str
    bytes: int
    about: str
    outcome: str


@dataclass(frozen=True)
class Section:
    """One command's phases, with the facts that a reader needs to judge them (model, mirror, image, …)."""

    kind: str
    began: str
    seconds: float
    timings: tuple[Timing, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    flows: tuple[Flow, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    layers: tuple[ImageLayer, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """All sections of one deployment, oldest first."""

    id: str
    sections: tuple[Section, ...]

    @property
    def model(self) -> str | None:
        """The model that was deployed last."""
        return next((s.facts["model"] for s in reversed(self.sections) if "model" in s.facts), None)

    @property
    def seconds(self) -> float:
        """Of all sections together."""
        return sum(section.seconds for section in self.sections)
