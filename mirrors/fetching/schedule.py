"""Who fetches which bytes next: decisions only, without network, threads or a clock of its own (`now` is passed in).

A job is one file. Its missing bytes are handed out as pieces, earliest first, each as large as its connection is
expected to bring in one to two seconds. When nothing is left to hand out, an idle connection takes over the later part
of the piece that is expected to be ready last; one that brings no byte for STALL seconds loses the rest of its piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mirrors.artifact import FLOW_SECONDS
from mirrors.fetching.transfer import SourceFault
from mirrors.fetching.work import CONNECTIONS, LOOK, Job, Mirror, Piece, Rank, Source

MIN_PIECE, MAX_PIECE = 1 << 18, 1 << 24  # bytes
FIRST_PIECE = 1 << 20  # bytes that are asked for where the size of the file is not known
PIECE_SECONDS = 1.5
MAX_PIECE_SECONDS = 8.0
ROUND_TRIPS = 16  # of waiting for a first byte that a piece should outweigh
MIN_SPLIT = 1 << 14  # bytes
MIN_GAIN = 0.15  # seconds that taking over a part must save
STALL = 3.0  # seconds without a byte
MAX_TRIES = 3  # of one source in a row without progress
MAX_WAIT = 30.0  # seconds that we let a source make us wait
SLOW = 64 * 1024  # bytes/s; below it a reserve is taken instead
CRAWLING = 1024  # bytes/s; below it a source is given up, even if it is the last one
WINDOW = 15.0  # seconds over which that rate is taken
PROGRESS = 1 << 20  # so many new bytes make a broken connection worth a fresh set of tries


class Schedule:
    """All files that are being fetched, and all mirrors that they come from."""

    def __init__(self, rates: Mapping[str, float] | None = None, per_minute: Mapping[str, int] | None = None) -> None:
        self.jobs: list[Job] = []
        self.mirrors: dict[str, Mirror] = {}
        self._rates = rates or {}
        self._per_minute = per_minute or {}

    def mirror(self, netloc: str) -> Mirror:
        """The mirror of that name."""
        if netloc not in self.mirrors:
            known = self._rates.get(netloc)
            fresh = Mirror(netloc, known / CONNECTIONS, LOOK, proven=True) if known else Mirror(netloc)
            fresh.per_minute = self._per_minute.get(netloc)
            self.mirrors[netloc] = fresh
        return self.mirrors[netloc]

    def assign(self, now: float) -> list[Piece]:
        """All work that can be begun now."""
        jobs = sorted(self.jobs, key=lambda job: not job.readers)
        for job in jobs:
            _leave_sleepers(job, now)
        pieces = [piece for job in jobs for piece in _taken(job, job.team(now), self._claim, now)]
        for job in jobs:
            fastest_first = sorted(job.team(now), key=lambda source: -source.mirror.rate)
            pieces += _taken(job, fastest_first, self._relieve, now)
        return pieces

    def _claim(self, job: Job, source: Source, now: float) -> Piece | None:
        """The earliest bytes that nobody brings."""
        gap = next(iter(job.free), None)
        if gap is None or (job.size is None and job.pieces):  # the first answer will say how long the file is
            return None
        start, end = gap
        whole = source.rank == Rank.WHOLE
        if whole and job.pieces:
            return None
        length = self._length(job, source.mirror, now)
        if not whole and job.size is not None and end - start - length >= MIN_PIECE // 2:  # no slivers
            end = start + length
        job.free.remove(start, end)
        return Piece(job, source, start, end, now, whole=whole)

    def _length(self, job: Job, mirror: Mirror, now: float) -> int:
        """How many bytes one connection to a mirror shall bring at a time."""
        seconds = min(max(PIECE_SECONDS, ROUND_TRIPS * mirror.latency), MAX_PIECE_SECONDS)
        if mirror.per_minute:  # so long that four connections never ask more often
            seconds = max(seconds, 60 * CONNECTIONS / mirror.per_minute)
        largest = max(MAX_PIECE, mirror.rate / 8)
        all_rates = sum(source.mirror.rate * CONNECTIONS for source in job.team(now))
        share = job.free.total * mirror.rate / all_rates
        least = max(MIN_PIECE, min(2 * mirror.rate * mirror.latency, largest))
        return int(max(least, min(seconds * mirror.rate, largest, share)))

    def _relieve(self, job: Job, source: Source, now: float) -> Piece | None:
        """The later part of the piece that is expected to be ready last, so that both end at the same time."""
        if job.size is None or source.rank == Rank.WHOLE:
            return None
        slowest = max(
            (piece for piece in job.pieces if piece.can_be_relieved(source.mirror, now)),
            key=lambda piece: piece.seconds_left(now),
            default=None,
        )
        if slowest is None:
            return None
        mine, theirs, left = source.mirror.rate, slowest.rate(now), slowest.seconds_left(now)
        count = int((left - source.mirror.latency) * mine * theirs / (mine + theirs))
        if slowest.end - slowest.taken - count < MIN_SPLIT:
            count = slowest.end - slowest.taken
        if count <= 0 or count / theirs < MIN_GAIN:
            return None
        end = slowest.end
        slowest.end -= count
        return Piece(job, source, slowest.end, end, now)

    def take(self, piece: Piece, position: int, count: int, now: float) -> tuple[int, int]:
        """Bytes came in.

        Args:
            piece: for it.
            position: where in the file the first of them belongs.
            count: how many.
            now: the time.

        Returns:
            Which of them are to be written, as positions in what came in.
        """
        mirror = piece.source.mirror
        if piece.first is None:
            piece.first = now
            mirror.latency = (now - piece.begun) if not mirror.proven else (mirror.latency + now - piece.begun) / 2
            mirror.proven = True
        piece.job.received[mirror.netloc] += count
        mirror.flow[int(now / FLOW_SECONDS)] += count
        piece.last = now
        since, seen = piece.look or (now, 0)
        piece.look = (since, seen + count)
        if now - since >= LOOK:
            mirror.saw(seen + count, now - since)
            piece.look = (now, 0)
        piece.window = (piece.window[0], piece.window[1] + count)
        start, end = max(piece.taken, position), min(piece.end, position + count)
        if start >= end:
            return 0, 0
        piece.taken = end
        return start - position, end - position

    def widen(self, piece: Piece) -> None:
        """Let a piece go on over the free bytes that follow it."""
        end = piece.job.free.reach(piece.end)
        piece.job.free.remove(piece.end, end)
        piece.end = end

    def finish(self, piece: Piece, fault: SourceFault | None, now: float, wait: float = 0.0) -> None:
        """A connection is free again.

        Args:
            piece: what it was bringing; what is missing of it is free again.
            fault: what the source did wrong.
            now: the time.
            wait: the seconds to leave the mirror alone, where it did not say so itself.
        """
        job, source, mirror = piece.job, piece.source, piece.source.mirror
        job.pieces.remove(piece)
        job.free.add(piece.done, piece.end)
        mirror.connections -= 1
        got = piece.done - piece.start
        if piece.first is not None and got >= MIN_SPLIT and 0 < now - piece.first < LOOK:
            mirror.saw(got, now - piece.first)
        if fault is None:
            if got:
                source.tries = mirror.faults = 0
            return
        job.mishaps += 1
        if piece.begun < source.faulted:  # the same mishap has been counted, for another connection
            return
        self._record(source, fault, got, now, wait)

    def _record(self, source: Source, fault: SourceFault, got: int, now: float, wait: float) -> None:
        mirror = source.mirror
        source.faulted = now
        source.tries = 1 if got >= PROGRESS else source.tries + 1
        if str(fault) not in source.reasons:
            source.reasons.append(str(fault))
        if fault.retry == "never":
            source.rank = Rank.OUT
            return
        pause = wait * 2 ** (source.tries - 1) if fault.wait is None else fault.wait
        mirror.faults += 1
        if pause > MAX_WAIT or (source.tries >= MAX_TRIES and fault.retry == "now"):
            source.rank = Rank.OUT
        elif source.tries >= MAX_TRIES or fault.retry == "later":
            source.rank = Rank.POOR if source.rank == Rank.GOOD else Rank.OUT
            source.tries = 0
        mirror.rest_until = max(mirror.rest_until, now + pause)

    def overdue(self, now: float) -> list[Piece]:
        """The pieces that must be cut off: nothing left to do, or a source that brings too little."""
        pieces = [piece for job in self.jobs for piece in job.pieces if not piece.cut]
        late = [piece for piece in pieces if piece.taken >= piece.end and piece.done >= piece.end]
        for piece in pieces:
            if piece not in late and (sentence := self._sentence(piece, now)):
                piece.sentence = sentence
                late.append(piece)
        for piece in late:
            piece.cut = True
        return late

    def _sentence(self, piece: Piece, now: float) -> SourceFault | None:
        others = piece.job.others(piece.source, now)
        alive = any(other.source is piece.source and not other.quiet(now) for other in piece.job.pieces)
        if (others or alive) and now - piece.last >= STALL:
            return SourceFault(f"sends nothing for {STALL:.3g} s", "now")
        since, count = piece.window
        if now - since < WINDOW:
            return None
        floor = SLOW / piece.source.mirror.connections if others and piece.source.rank == Rank.GOOD else CRAWLING
        piece.window = (now, 0)
        if count < floor * (now - since):
            return SourceFault(f"is slow: {count / (now - since) / 1024:.1f} KiB/s", "later")
        return None


def _leave_sleepers(job: Job, now: float) -> None:
    """Do without mirrors that told another file to wait for longer than anybody would."""
    for source in job.sources:
        rest = source.mirror.rest_until - now
        if source.usable and rest > MAX_WAIT:
            source.rank = Rank.OUT
            source.reasons.append(f"is not to be asked for another {rest:.0f} s")


def _taken(
    job: Job, team: Sequence[Source], take: Callable[[Job, Source, float], Piece | None], now: float
) -> Iterator[Piece]:
    """The pieces that the free connections of a team get."""
    for source in team:
        while source.mirror.capacity(now) > 0 and (piece := take(job, source, now)):
            job.pieces.append(piece)
            source.mirror.ask(now)
            yield piece
