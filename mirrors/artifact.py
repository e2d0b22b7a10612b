"""What is wanted, and what became of it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FLOW_SECONDS = 0.25  # the slots in which it is noted what came when


@dataclass(frozen=True)
class Artifact:
    """A file that is wanted. The size may be unknown; the sha256 never comes from the server that gives the bytes."""

    name: str
    size: int | None
    sha256: str


@dataclass(frozen=True)
class Times:
    """When what became of a file, in seconds of the monotonic clock.

    Attributes:
        begun: its turn came.
        first: the first byte came in; None: all was here already.
        last: the last byte came in.
        checked: the work at its sha256 began; None: an earlier run did that.
        verified: it was known to have it.
        ended: it was in the store.
        hashing: how many seconds of work the sha256 took, in between.
    """

    begun: float
    first: float | None
    last: float | None
    checked: float | None
    verified: float | None
    ended: float
    hashing: float


@dataclass(frozen=True)
class Fetched:
    """A file that is in the store.

    Attributes:
        bytes_fetched: what came over the network in this call, thrown-away bytes included.
        source: the URL that gave most of it, without secrets; "store" if nothing had to be fetched.
        retries: requests that failed and were made up for by others.
        per_source: the bytes that each mirror (host:port) gave in this call, thrown-away ones included.
        times: when.
    """

    artifact: Artifact
    path: Path
    bytes_fetched: int
    seconds: float
    source: str
    retries: int
    per_source: Mapping[str, int] = field(default_factory=dict)
    times: Times | None = None
