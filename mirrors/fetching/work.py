"""What the schedule decides about: mirrors, the sources of a file, files, pieces; what is known and expected of each.

Data and estimates, no decisions, and no clock: `now` is passed in, in seconds of any clock that does not jump.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mirrors.fetching.transfer import SourceFault
from mirrors.ranges import Ranges

CONNECTIONS = 4  # at once to one mirror
MIRRORS = 4  # at once for one file
UNKNOWN_RATE = 1 << 19  # bytes/s that one connection is taken to bring until it was seen
UNKNOWN_LATENCY = 0.1  # seconds to the first byte
QUIET = 1.0  # seconds without an expected byte after which others that are idle take over
LOOK = 0.5  # seconds between two looks at the rate of a connection


class Rank(IntEnum):
    """What a source is good for, as far as one file goes. Only those of the best rank that is left are used."""

    GOOD = 0
    POOR = 1  # slow, or silent too often
    WHOLE = 2  # serves no ranges
    OUT = 3


@dataclass(eq=False)
class Mirror:
    """A host with its port, in all that is fetched from it.

    Attributes:
        rate: bytes/s that one connection brings.
        watched: seconds over which that rate was seen, all in all; LOOK where it was told to us.
        proven: whether it gave a byte.
        latency: seconds from a request to its first byte.
        faults: in a row; while there are any it is asked by one connection only, as is one that never gave a byte.
        visitors: connections lent to whoever compares bytes.
        dropped: why it is not asked for anything any more.
        credit: bytes that it gave to files that turned out right.
        per_minute: the requests that its operator allows, where that is published.
        asked: when it was asked in the last minute, if so.
        flow: bytes that came from it, by slot of FLOW_SECONDS since the clock's zero.
    """

    netloc: str
    rate: float = UNKNOWN_RATE
    watched: float = 0.0
    latency: float = UNKNOWN_LATENCY
    proven: bool = False
    connections: int = 0
    visitors: int = 0
    faults: int = 0
    rest_until: float = 0.0
    dropped: str | None = None
    credit: int = 0
    per_minute: int | None = None
    asked: deque[float] = field(default_factory=deque)
    flow: Counter[int] = field(default_factory=Counter)

    def saw(self, count: int, seconds: float) -> None:
        """One connection brought so many bytes in so many seconds. The shorter that was, the less it says."""
        weight = seconds / (seconds + LOOK)
        self.rate += weight * (count / seconds - self.rate)
        self.watched += seconds

    def capacity(self, now: float) -> int:
        """How many more connections it may get."""
        if now < self.rest_until or self.dropped is not None or not self._may_be_asked(now):
            return 0
        return (CONNECTIONS if self.proven and not self.faults else 1) - self.connections - self.visitors

    def ask(self, now: float) -> None:
        """One more connection asks it."""
        self.connections += 1
        if self.per_minute is not None:
            self.asked.append(now)

    def _may_be_asked(self, now: float) -> bool:
        while self.asked and self.asked[0] <= now - 60:
            self.asked.popleft()
        return self.per_minute is None or len(self.asked) < self.per_minute


@dataclass(eq=False)
class Source:
    """One URL of one file.

    Attributes:
        url: as it was given. It may carry credentials.
        direct: where it redirected to. Asked first, until that fails: it saves a request for each piece.
        tries: failures in a row.
        reasons: what was wrong with it, each the second half of a sentence.
        faulted: when it last failed.
        aside: what it says of the file's size, where others are believed (see fetching.claims).
    """

    url: str = field(repr=False)
    mirror: Mirror
    direct: str | None = field(default=None, repr=False)
    rank: Rank = Rank.GOOD
    tries: int = 0
    reasons: list[str] = field(default_factory=list)
    faulted: float = 0.0
    aside: str | None = None

    @property
    def able(self) -> bool:
        """Whether nothing is known that keeps it from giving this file."""
        return self.rank < Rank.OUT and self.mirror.dropped is None

    @property
    def usable(self) -> bool:
        """Whether it may be asked for this file now."""
        return self.able and self.aside is None


@dataclass(eq=False)
class Piece:
    """A part of a file that one connection brings. `end` may come nearer while it does so.

    Attributes:
        taken: up to where its bytes have come in.
        done: up to where they have been written.
        whole: the source serves no ranges, so it sends everything before the piece as well.
        sentence: why it was cut short, if the source is to blame for that.
        cut: it must stop.
    """

    job: Job
    source: Source
    start: int
    end: int
    begun: float
    whole: bool = False
    taken: int = 0
    done: int = 0
    first: float | None = None
    last: float = 0.0
    window: tuple[float, int] = (0.0, 0)
    look: tuple[float, int] | None = None
    sentence: SourceFault | None = None
    cut: bool = False

    def __post_init__(self) -> None:
        self.taken = self.done = self.start
        self.last = self.begun
        self.window = (self.begun, 0)

    def can_be_relieved(self, mirror: Mirror, now: float) -> bool:
        """Whether a mirror may take over a part: bytes come in, or should long have done so, and not from itself.

        How fast they come in has to be known: a guess takes work from a connection that is about to be done with it.
        """
        if self.whole:
            return False
        if self.quiet(now):
            return mirror is not self.source.mirror
        return self.first is not None and max(now - self.first, self.source.mirror.watched) >= LOOK

    def quiet(self, now: float) -> bool:
        """Whether it has been silent for longer than is to be expected."""
        return now - self.last > QUIET + (self.source.mirror.latency if self.first is None else 0)

    def rate(self, now: float) -> float:
        """Bytes/s that it is expected to bring from now on."""
        if self.quiet(now):
            return 1.0
        if self.first is None or now - self.first < LOOK:
            return self.source.mirror.rate
        return max(1.0, (self.taken - self.start) / (now - self.first))

    def seconds_left(self, now: float) -> float:
        """When it is expected to be ready."""
        waiting = max(0.0, self.source.mirror.latency - (now - self.begun)) if self.first is None else 0.0
        return waiting + (self.end - self.taken) / self.rate(now)


@dataclass(eq=False)
class Job:
    """One file.

    Attributes:
        size: its bytes; None: not known yet.
        sources: best first.
        free: bytes that are missing and that nobody brings.
        readers: how many wait for its bytes right now; such files come first.
        received: the bytes that came in, by mirror, whether they were of use or not.
        mishaps: requests that failed.
    """

    size: int | None
    sources: Sequence[Source]
    free: Ranges = field(default_factory=Ranges)
    pieces: list[Piece] = field(default_factory=list)
    readers: int = 0
    received: Counter[str] = field(default_factory=Counter)
    mishaps: int = 0

    @property
    def missing(self) -> int:
        """How many bytes are still to come."""
        return self.free.total + sum(piece.end - piece.done for piece in self.pieces)

    @property
    def finished(self) -> bool:
        """Whether all bytes are here."""
        return self.size is not None and not self.free and not self.pieces

    @property
    def hopeless(self) -> bool:
        """Whether nobody is left who could bring what is missing."""
        return not self.finished and not self.pieces and not any(source.usable for source in self.sources)

    def others(self, source: Source, now: float) -> bool:
        """Whether there is another one than this source, be it one that says another size."""
        team = any(other is not source for other in self.team(now))
        return team or any(other.able and other.aside is not None for other in self.sources)

    def team(self, now: float) -> list[Source]:
        """The sources that are used now: the first few of the best rank, those that rest last."""
        usable = [source for source in self.sources if source.usable]
        rank = min((source.rank for source in usable), default=Rank.OUT)
        chosen = [source for source in usable if source.rank == rank]
        chosen.sort(key=lambda source: source.mirror.rest_until > now)
        return chosen[: 1 if rank == Rank.WHOLE else MIRRORS]
