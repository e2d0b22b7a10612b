"""A file that is wanted, as those see it who want it: its result, its size, and its bytes while they come in.

Bytes are given out before the whole is verified. If they turn out wrong, whoever got them is told, and nobody ever gets
the end of a file that is wrong. Knows nothing of how bytes come: the keeper says here what has become of the file.
"""

from __future__ import annotations

import threading
from pathlib import Path

from mirrors.artifact import Artifact, Fetched
from mirrors.disk import trouble
from mirrors.errors import WrongBytes
from mirrors.fetching.work import Job
from mirrors.partial import Partial
from mirrors.ranges import Ranges

HELD_BACK = 1 << 16  # bytes at the end of a file that no reader gets before the whole was verified


class Download:
    """Made by Downloads.want; safe to use from any thread.

    Attributes:
        artifact: which file.
        epoch: how many times bytes that had been given out turned out wrong.
        path: where the whole and verified file lies; None: not yet.
        job: what is known of it as work.
        changed: told of whatever readers may wait for; its lock is the crew's.
    """

    def __init__(self, artifact: Artifact, job: Job, lock: threading.RLock) -> None:
        self.artifact = artifact
        self.epoch = 0
        self.path: Path | None = None
        self.job = job
        self.changed = threading.Condition(lock)
        self._partial: Partial | None = None
        self._verified = False
        self._given = Ranges()
        self._outcome: Fetched | Exception | None = None

    # For those who want the file

    def result(self, timeout: float | None = None) -> Fetched:
        """Wait until the file is in the store.

        Raises:
            FetchFailed: no source gave it; says why for each.
            NoSpace: the disk is full.
            MirrorError: the store cannot be written, or the downloads were ended.
            TimeoutError: it is not there after `timeout` seconds. It is still being fetched.
        """
        with self.changed:
            if not self.changed.wait_for(lambda: self._outcome is not None, timeout):
                raise TimeoutError(f"{self.artifact.name} is not here after {timeout} s")
            return self._fetched()

    def size(self) -> int:
        """Wait until the size of the file is known, in bytes.

        Raises:
            MirrorError: as `result`.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.job.size is not None or self._outcome is not None)
            if self.job.size is None:
                self._fetched()
            assert self.job.size is not None
            return self.job.size

    def read(self, start: int, end: int, epoch: int | None = None) -> bytes:
        """Wait for bytes of the file, which come first from now on.

        The last HELD_BACK bytes are given only when the whole was verified, so nobody gets a whole that is wrong.

        Args:
            start: the first byte.
            end: the byte after the last one; beyond the file's end is fine.
            epoch: `Download.epoch` as it was before the first byte for the same client was read; None: as it is now, so
                only bytes that turn out wrong during this call are noticed.

        Returns:
            At least one byte and at most those asked for; none at the end of the file.

        Raises:
            WrongBytes: bytes that had been given out since that epoch turned out wrong: break the client's connection.
            MirrorError: as `result`.
        """
        epoch = self.epoch if epoch is None else epoch
        while True:
            with self.changed:
                partial, reach = self._await(start, end, epoch)
            if partial is None:
                return self._read_whole(start, end)
            try:
                return partial.read(start, reach) if start < reach else b""
            except ValueError:  # published, or found wrong, just now
                continue

    def _await(self, start: int, end: int, epoch: int) -> tuple[Partial | None, int]:
        """Wait until there is something to read: up to where, in what is here so far; None: the whole file is."""
        self.job.readers += 1
        try:
            self.changed.wait_for(lambda: self.epoch != epoch or self._readable(start, end) is not None)
        finally:
            self.job.readers -= 1
        if self.epoch != epoch:
            raise WrongBytes(f"bytes of {self.artifact.name} turned out wrong", "ask for the file again")
        reach = self._readable(start, end)
        if self.path is None and isinstance(self._outcome, Exception):
            raise self._outcome
        if self.path is not None or reach is None:
            return None, end
        self._given.add(start, reach)
        return self._partial, reach

    def _readable(self, start: int, end: int) -> int | None:
        """Up to where there are bytes for a reader; None: it has to wait."""
        if self._outcome is not None or self.path is not None:
            return end
        size = self.job.size
        if size is None or self._partial is None:
            return None
        limit = size if self._verified else size - HELD_BACK
        reach = min(self._partial.reach(start), end, max(start, limit))
        return reach if reach > start or start >= size else None

    def _read_whole(self, start: int, end: int) -> bytes:
        assert self.path is not None
        with trouble(self.path), self.path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(end - start)

    def _fetched(self) -> Fetched:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    # For the keeper

    @property
    def failure(self) -> Exception | None:
        """Why the file will not come, if so."""
        return self._outcome if isinstance(self._outcome, Exception) else None

    @property
    def fetched(self) -> Fetched | None:
        """The file, if it is in the store."""
        return self._outcome if isinstance(self._outcome, Fetched) else None

    @property
    def over(self) -> bool:
        """Whether it is here, or will not come."""
        return self._outcome is not None

    def opened(self, partial: Partial | None) -> None:
        """Its bytes so far may be read there; None: no longer."""
        with self.changed:
            self._partial = partial
            self.changed.notify_all()

    def verified(self) -> None:
        """The bytes so far are the very file."""
        with self.changed:
            self._verified = True
            self.changed.notify_all()

    def finish(self, fetched: Fetched) -> None:
        """The file is in the store."""
        with self.changed:
            self.resize(fetched.path.stat().st_size)
            self.path, self._outcome = fetched.path, fetched
            self.changed.notify_all()

    def fail(self, error: Exception) -> None:
        """The file will not come."""
        with self.changed:
            if self._outcome is None:
                self._outcome = error
            self.changed.notify_all()

    def resize(self, size: int | None) -> None:
        """The file has that size; None: it is not known any more. Whoever was told another one is told so."""
        with self.changed:
            if self.job.size is not None and self.job.size != size:
                self.epoch += 1
            self.job.size = size
            self.changed.notify_all()

    def take_back(self, wrong: Ranges) -> None:
        """These bytes are no good."""
        with self.changed:
            if any(self._given.within(start, end) for start, end in wrong):
                self.epoch += 1
                self._given = Ranges()
            self.changed.notify_all()
