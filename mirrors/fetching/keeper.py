"""One file on its way into the store.

    what is here -> what is missing is brought, and hashed as it comes -> the whole is right: publish
                                                                      -> it is wrong: whose bytes? -> those once more

Where the size is not known, the sources' word counts for it (fetching.claims), until the sha256 says otherwise.
Knows nothing of which bytes come next, or from where: that is the schedule's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from mirrors.artifact import Fetched
from mirrors.disk import free_space, trouble
from mirrors.errors import FetchFailed, MirrorError, NoSpace
from mirrors.fetching.blame import Verdict, judge
from mirrors.fetching.claims import Claims
from mirrors.fetching.crew import Crew
from mirrors.fetching.download import Download
from mirrors.fetching.schedule import FIRST_PIECE
from mirrors.fetching.times import Clock
from mirrors.fetching.transfer import SourceFault
from mirrors.fetching.work import Source
from mirrors.interrupt import Interrupted
from mirrors.partial import HASH_BLOCK, Partial
from mirrors.ranges import Ranges
from mirrors.store import Store
from mirrors.urls import shown

_LIES = "serves other bytes than the sha256 names"


class Keeper:
    """Brings one file, in a thread of its own, while the crew's threads hand it bytes."""

    def __init__(self, download: Download, crew: Crew, store: Store, tell: Callable[[int], None]) -> None:
        self.download = download
        self._artifact = download.artifact
        self._job = download.job
        self._crew = crew
        self._store = store
        self._tell = tell
        self._partial: Partial | None = None
        self._restarted = False
        self._acquittable: list[Source] = []
        self._claims = Claims()  # empty where the size is known
        self._began = time.monotonic()
        self._clock = Clock()
        self._hashable = threading.Condition(crew.lock)

    def keep(self) -> None:
        """Bring the file into the store.

        Raises:
            Busy: another process or thread does so.
            FetchFailed: no source gave it.
            MirrorError: the disk is full or cannot be written, or the crew is closing.
        """
        self._clock = Clock()
        with self._store.incoming(self._artifact.sha256, wait=False) as partial:
            if partial is None:
                self._found(self._store.path(self._artifact.sha256))
                return
            self._partial = partial
            try:
                self._take_stock(partial)
                self._until_right(partial)
                self._publish(partial)
            finally:
                self.download.opened(None)

    def _found(self, path: Path) -> None:
        with trouble(path):
            self._tell(path.stat().st_size)
        seconds = time.monotonic() - self._began
        self.download.finish(Fetched(self._artifact, path, 0, seconds, "store", 0, times=self._clock.times()))

    def _take_stock(self, partial: Partial) -> None:
        """See what an earlier run left, and whether there is room for the rest."""
        size = self._artifact.size
        if size is not None and partial.have.end > size:
            partial.forget(size, partial.have.end)
        self._tell(partial.have.total)
        whole = size is None and partial.complete  # so is an empty file, which has a sha256 too
        with self._crew.lock:
            if whole:
                self._job.size = partial.prefix
            self._free()
            self.download.opened(partial)
        if size is not None:
            _require_room(self._artifact.name, size - partial.have.total, partial.path)

    def _until_right(self, partial: Partial) -> None:
        while True:
            self._until_here(partial)
            with self._clock.hashing():
                right = partial.complete
            if right:
                return
            if self._outvoted():
                self._resize(partial)
            else:
                self._mend(partial)

    def _until_here(self, partial: Partial) -> None:
        """Let the crew bring what is missing, and hash what is here meanwhile."""
        self._crew.begin(self._job, self)
        try:
            while not self._here():
                with self._clock.hashing():
                    partial.hash_on()
        finally:
            self._crew.end(self._job)

    def _here(self) -> bool:
        """Wait for something to hash, or for the end: all is here, or another size is believed."""
        with self._crew.lock:
            self._hashable.wait_for(lambda: self._worth_hashing() or self._over())
            if self.download.failure is not None:
                raise self.download.failure
            if self._crew.closing:
                raise MirrorError(f"the download of {self._artifact.name} was ended", "what came in is kept")
            if self._outvoted():
                return True
            if self._job.hopeless:
                raise FetchFailed(f"no source gave {self._artifact.name}: {self._told()}", self._hint())
            return self._job.finished

    def _worth_hashing(self) -> bool:
        return self._partial is not None and self._partial.prefix - self._partial.hashed >= HASH_BLOCK

    def _over(self) -> bool:
        job = self._job
        return job.finished or job.hopeless or self._crew.closing or self.download.over or self._outvoted()

    def _publish(self, partial: Partial) -> None:
        with self._crew.lock:
            for name, ranges in partial.sources().items():
                self._crew.schedule.mirror(name).credit += ranges.total
            self.download.verified()
        path = partial.publish()
        with self._crew.lock:
            self.download.finish(self._summary(path))

    def _summary(self, path: Path) -> Fetched:
        received = self._job.received
        best = max(self._job.sources, key=lambda source: received[source.mirror.netloc], default=None)
        source = shown(best.url) if best and received[best.mirror.netloc] else "store"
        seconds = time.monotonic() - self._began
        times, told = self._clock.times(), dict(received)
        return Fetched(self._artifact, path, received.total(), seconds, source, self._job.mishaps, told, times)

    # When the whole is wrong

    def _mend(self, partial: Partial) -> None:
        """Throw away what is wrong, and drop who gave it."""
        if not partial.have:
            size, hint = self._job.size, "whoever said so is wrong; choose another mirror"
            raise FetchFailed(f"{self._artifact.name} cannot have {size} bytes: nothing has its sha256", hint)
        if doubtful := self._of_others(partial):
            with self._crew.lock:
                self._forget(partial, doubtful)
            return
        usable = {source.mirror.netloc: source for source in self._job.sources if source.usable}
        trust = {name: source.mirror.credit for name, source in usable.items()}

        def read(name: str, start: int, end: int) -> bytes:
            content = self._crew.read(usable[name], start, end)
            with self._crew.lock:
                self._job.received[name] += len(content)
            return content

        verdict = judge(partial, list(usable), trust, read)
        with self._crew.lock:
            self._execute(verdict, usable)
            self._forget(partial, verdict.forget)
            self._resize(partial)

    def _execute(self, verdict: Verdict, usable: dict[str, Source]) -> None:
        """Drop the liars; if nobody is left then, first those get another chance who may have been dropped wrongly."""
        for name in verdict.liars:
            source = usable[name]
            self._claims.withdraw(source)
            if not verdict.certain:
                self._acquittable.append(source)
            source.mirror.dropped = _LIES
            source.reasons.append(_LIES)
        if any(source.able for source in self._job.sources):
            return
        again, self._acquittable = self._acquittable, []
        if not again and not self._restarted:
            self._restarted = True
            again = [usable[name] for name in verdict.liars]
        for source in again:
            source.mirror.dropped = None
            source.reasons.remove(_LIES)

    def _forget(self, partial: Partial, wrong: Ranges) -> None:
        self._tell(-wrong.total)
        for start, end in wrong:
            partial.forget(start, end)
        self.download.take_back(wrong)
        self._free()

    # Where the size is not known

    def _outvoted(self) -> bool:
        """Whether another size is believed by now than the one that the work goes by."""
        believed = self._claims.believed
        return believed is not None and believed != self._job.size

    def _resize(self, partial: Partial) -> None:
        """Go on with the size that is believed now."""
        if self._artifact.size is not None:
            return
        with self._crew.lock:
            size = self._claims.believed
            self._claims.set_aside(size)
            self.download.resize(size)
            if size is not None:
                self._forget(partial, Ranges(partial.have.within(size, partial.have.end)))
            self._free()

    def _of_others(self, partial: Partial) -> Ranges:
        """What came from others than those that say this size: it is replaced before anybody is blamed."""
        if self._artifact.size is not None:
            return Ranges()
        agreed = self._claims.by(self._job.size)
        gave = partial.sources().items()
        return Ranges(part for name, ranges in gave if name not in agreed for part in ranges)

    # For the crew

    def accept(self, total: int | None, source: Source) -> None:
        """The size that a source says: the right one, or where nobody knows that, the one that is believed.

        Raises:
            SourceFault: it cannot be that of the file.
            Interrupted: others say something else.
        """
        known = self._artifact.size
        if known is None:
            self._hear(total, source)
        elif total is not None and total != known:
            raise SourceFault(f"has a file of {total} bytes, not {known}", "never")

    def _hear(self, total: int | None, source: Source) -> None:
        assert self._partial is not None
        if total is None:
            raise SourceFault("does not say how long the file is", "never")
        if total == 0:  # the sha256 says that it is not
            raise SourceFault("has an empty file", "never")
        if total - self._partial.have.total > free_space(self._partial.path):
            raise SourceFault(f"announces {total} bytes, more than there is room for", "never")
        with self._crew.lock:
            self._claims.add(source, total)
            if self._job.size is None:
                self._learn_size(self._partial, total)
            if total != self._job.size:
                self._claims.set_aside(self._job.size)
                self.moved()  # it may be believed more than the others
                raise Interrupted

    def past_the_end(self) -> bool:
        """A source says that the file ends before what was asked for: right, if the size was not known."""
        with self._crew.lock:
            if self._job.size is not None or self._partial is None:
                return False
            if not self._partial.have:  # no file begins after its end
                return False
            self._forget(self._partial, self._partial.have)
            return True

    def write(self, offset: int, block: bytes | memoryview, netloc: str) -> None:
        """Keep bytes."""
        assert self._partial is not None
        self._clock.block_came()
        self._partial.write(offset, block, netloc)
        self._tell(len(block))

    def moved(self) -> None:
        """Wake whoever waits for what has come."""
        self.download.changed.notify_all()
        if self._worth_hashing() or self._over():
            self._hashable.notify_all()

    def broken(self, error: Exception) -> None:
        """The disk does not take the bytes."""
        self.download.fail(error)
        self._hashable.notify_all()

    def _learn_size(self, partial: Partial, size: int) -> None:
        self.download.resize(size)
        self._forget(partial, Ranges(partial.have.within(size, partial.have.end)))
        for piece in self._job.pieces:
            piece.end = max(piece.start, min(piece.end, size))
        self._free()
        self.moved()

    def _free(self) -> None:
        """Tell the schedule what is missing. Without a size, that is taken to be what follows what is here."""
        assert self._partial is not None
        have, size = self._partial.have, self._job.size
        end = size if size is not None else have.prefix + FIRST_PIECE
        self._job.free = Ranges(have.gaps(0, end))
        for piece in self._job.pieces:
            self._job.free.remove(piece.done, piece.end)

    def _told(self) -> str:
        told = [f"{shown(source.url)} {', then '.join(_reasons(source))}" for source in self._job.sources]
        return "; ".join(told) or "there is none"

    def _hint(self) -> str:
        if any(_LIES in _reasons(source) for source in self._job.sources):
            return "wrong bytes were thrown away; choose another mirror"
        return "check the network, or choose another mirror; what came in is kept, and the next run goes on from there"


def _reasons(source: Source) -> list[str]:
    return source.reasons or [source.mirror.dropped or source.aside or "was not asked"]


def _require_room(name: str, missing: int, path: Path) -> None:
    free = free_space(path)
    if missing > free:
        needed, left = f"{name} needs {missing / 1e6:.1f} MB more", f"{path.parent} has {free / 1e6:.1f} MB left"
        raise NoSpace(f"{needed}, and {left}", "make room, or choose another disk")
