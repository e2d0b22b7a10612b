"""The queue of jobs, on disk: what was acknowledged survives a kill of every process.

One SQLite file (WAL, synchronous=FULL) and two folders beside it: the pictures of unfinished jobs, and the
videos. A job belongs to one attempt at a time, named by its lease: whoever finishes it with an older lease
finishes nothing. The order of the queue and the leases are numbers, so no clock can upset them. Knows nothing of
workers, of models or of HTTP.

    queued --claim--> in_progress --finish--> completed --sweep, remove--> forgotten
      ^                    |------fail------> failed    --sweep, remove--> forgotten
      +---- give_back -----+                  (cancelled ones too, with the code "cancelled")
"""

import contextlib
import errno
import fcntl
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runtime import job_rows as rows
from runtime.bounds import Bound, InvalidOption
from runtime.job import Job, Status, check_key, fingerprint_of
from runtime.job_files import JobFiles
from runtime.job_schema import open_database
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem
from runtime.retention import KEEP_BYTES, KEEP_SECONDS, Clock, Finished, Retention

__all__ = ["MAX_ATTEMPTS", "MAX_WAITING", "DiskFull", "Job", "JobStore", "KeyReused", "Page", "QueueFull", "Status"]

#: How many jobs may wait, besides those that run.
MAX_WAITING = 5
#: How often a job is begun before it is given up: a job that kills its worker must not do so for ever.
MAX_ATTEMPTS = 3
_PAGE_BOUND = Bound(1, 100)
_EXHAUSTED = f"the worker process ended {MAX_ATTEMPTS} times while it worked on this job"


class QueueFull(RuntimeProblem):
    """As many jobs wait as may."""


class KeyReused(RuntimeProblem):
    """The idempotency key belongs to a job that was asked for otherwise."""


class DiskFull(RuntimeProblem):
    """There is no room on the disk for another job."""


@dataclass(frozen=True)
class Page:
    """Some jobs, and whether there are more after them."""

    jobs: tuple[Job, ...]
    has_more: bool


class JobStore:
    """The jobs below one directory. Safe to use from several threads; one process at a time."""

    def __init__(
        self,
        root: Path,
        max_waiting: int = MAX_WAITING,
        *,
        keep_seconds: float | None = KEEP_SECONDS,
        keep_bytes: int | None = KEEP_BYTES,
        clock: Clock | None = None,
        on_end: Callable[[str, Mapping[str, float]], None] = lambda *_: None,
    ) -> None:
        """Opens or makes the store, and puts what a killed server was doing back into the queue.

        Args:
            root: The directory.
            max_waiting: How many jobs may wait.
            keep_seconds: How long finished jobs are kept; None: for ever.
            keep_bytes: How much room videos may take; None: all that there is.
            clock: What tells the time, if not the machine does.
            on_end: Told of each job that ends: "completed" or the code of its failure, and how long each part took.

        Raises:
            RuntimeProblem: Another server uses it, or a newer version wrote it.
        """
        self.max_waiting = max_waiting
        self._retention = Retention(keep_seconds, keep_bytes)
        self._clock = clock or Clock()
        self._on_end = on_end
        self._mutex = threading.Lock()
        with contextlib.ExitStack() as opened:
            try:
                self._files = JobFiles(root)
                opened.enter_context(_lock(root / "lock"))
                self._database = opened.enter_context(contextlib.closing(open_database(root / "jobs.sqlite3")))
                self._begin_to_age()
                self._recover()
            except (OSError, sqlite3.Error) as error:
                raise RuntimeProblem(f"cannot use {root} for jobs: {error}", "give another --data-dir") from error
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Lets another process use the store."""
        with self._mutex:
            self._opened.close()

    def add(
        self,
        model: str,
        request: GenerationRequest,
        picture: bytes,
        *,
        key: str | None = None,
        fingerprint: str | None = None,
    ) -> Job:
        """Queues a job. When this returns, the job and its picture are on disk.

        Args:
            model: The id of the model that is to make it.
            request: What to make.
            picture: Its file (see `runtime.uploads.to_bitmap`).
            key: The client's own name for this job: as long as the job is remembered, the same key gives the same
                job, in whatever state it is, and none is queued.
            fingerprint: Tells what the client sent from all else that it may send with the same key; if not given,
                that is the model, the request (with its seed) and the picture.

        Raises:
            InvalidOption: The key is not one.
            KeyReused: The key belongs to a job with another fingerprint.
            QueueFull: As many wait as may.
            DiskFull: There is no room for it.
        """
        if key is not None:
            check_key(key)
            fingerprint = fingerprint or fingerprint_of(model, request, picture)
        with self._transaction() as database:
            if known := self._known(database, key, fingerprint):
                return known
            self._refuse_if_full(database)
        job_id = f"video_{secrets.token_hex(16)}"
        job = None
        try:
            self._files.write_picture(job_id, picture)
            with self._transaction() as database:
                if known := self._known(database, key, fingerprint):  # another thread was faster
                    return known
                self._refuse_if_full(database)
                job = rows.insert(database, job_id, model, request, self._clock.wall(), (key, fingerprint))
            return job
        except (OSError, sqlite3.Error) as error:
            job = None
            if _is_full(error):
                raise DiskFull("the disk is full: the job was not taken", "make room, then send it again") from error
            raise
        finally:
            if job is None:
                self._files.drop_picture(job_id)

    def check_room(self) -> None:
        """Raises QueueFull if `add` would."""
        with self._transaction() as database:
            self._refuse_if_full(database)

    def get(self, job_id: str) -> Job | None:
        """The job of this id, if there is one."""
        with self._transaction() as database:
            return rows.find(database, job_id)

    def with_key(self, key: str) -> Job | None:
        """The job that a client gave this key, if there is one: `add` with the key then needs no room."""
        with self._transaction() as database:
            known = rows.with_key(database, key)
        return known[0] if known else None

    def listing(self, limit: int = 20, after: str | None = None, *, newest_first: bool = True) -> Page:
        """Some of all jobs, in the order in which they came.

        Args:
            limit: How many, at most 100.
            after: The id of the last job of the page before; None: the first page.
            newest_first: Else the oldest.

        Raises:
            InvalidOption: Another limit, or no job has the id `after` (any more).
        """
        _PAGE_BOUND.check("limit", limit)
        with self._transaction() as database:
            last = None if after is None else rows.find(database, after)
            if after is not None and last is None:
                raise InvalidOption("after is no video that there is", "begin again with the first page")
            jobs = rows.page(database, limit + 1, last, newest_first=newest_first)
        return Page(tuple(jobs[:limit]), has_more=len(jobs) > limit)

    def ahead_of(self, job: Job) -> int:
        """How many unfinished jobs come before this one."""
        with self._transaction() as database:
            return rows.count(database, f"{rows.UNFINISHED} AND number < ?", job.number)

    def unfinished(self) -> tuple[Job, ...]:
        """The jobs that wait or are worked at, in the order in which they came."""
        with self._transaction() as database:
            return tuple(rows.unfinished(database))

    def counts(self) -> dict[Status, int]:
        """How many jobs there are of each status."""
        with self._transaction() as database:
            return rows.counts(database)

    def models_waiting(self) -> tuple[str, ...]:
        """The models that unfinished jobs need, the one of the job that came first before the others."""
        with self._transaction() as database:
            return rows.models_waiting(database)

    def claim(self, model: str | None = None) -> Job | None:
        """Takes the job that has waited longest, under a new lease; with `model`, of those for that model."""
        return next(iter(self._claim(model, 1)), None)

    def claim_batch(self, model: str, at_most: int) -> tuple[Job, ...]:
        """Takes the job for that model that has waited longest, and others that one call can make together with it.

        Each gets its own lease. A job that was begun before comes alone. Empty if none waits.
        """
        return self._claim(model, at_most)

    def holds(self, job: Job) -> bool:
        """Whether the attempt is still the one that the job belongs to."""
        current = self.get(job.id)
        return current is not None and (current.status, current.lease) == ("in_progress", job.lease)

    def finish(self, job: Job, seconds: Mapping[str, float]) -> bool:
        """Marks the job as completed; the video lies at `video(job)`. False if the lease is no longer good."""
        self._files.settle_videos()
        return self._end(job, "completed", seconds=seconds)

    def fail(self, job: Job, code: str, message: str) -> bool:
        """Marks the job as failed. False if the lease is no longer good."""
        return self._end(job, "failed", code=code, message=message)

    def give_back(self, job: Job, *, counts: bool) -> None:
        """Puts a job whose attempt ended early back to its place in the queue.

        Args:
            job: As it was claimed.
            counts: Whether the attempt counts. After MAX_ATTEMPTS that do, the job has failed.
        """
        if counts and job.attempts >= MAX_ATTEMPTS:
            self.fail(job, "attempts_exhausted", _EXHAUSTED)
            return
        with self._transaction() as database:
            rows.put_back(database, job, counts=counts)
        self._drop_late(job)

    def cancel(self, job_id: str) -> bool:
        """Ends an unfinished job as failed, with the code "cancelled". False if there is none of this id."""
        with self._transaction() as database:
            how = self._now_ends("failed", code="cancelled", message="cancelled on request")
            cancelled = rows.end(database, how, f"id = ? AND {rows.UNFINISHED}", job_id)
        if cancelled:
            self._files.drop_picture(job_id)
            self._on_end("cancelled", {})
        return cancelled

    def remove(self, job_id: str) -> bool:
        """Forgets a finished job and its video. False if there is none of this id."""
        return bool(self._forget([job_id]))

    def sweep(self) -> int:
        """Forgets the finished jobs, and their videos, that were kept long enough or that there is no room for.

        To be called now and then, whatever the time: see `runtime.retention`. A kill on the way leaves no job
        without its video, and what it leaves goes at the next start.

        Returns:
            How many jobs it forgot.
        """
        sizes = self._files.video_bytes()
        with self._transaction() as database:
            rows.note_age(database, self._age(), self._clock.wall())
            finished = [Finished(job_id, age, sizes.get(job_id, 0)) for job_id, age in rows.finished(database)]
        return len(self._forget(self._retention.expired(finished, self._age())))

    def expires_at(self, job: Job) -> float | None:
        """Until when a finished job is kept if the room suffices, in seconds since 1970.

        None: for ever, or it is not finished. It is kept for longer if the clock is set or no server runs for long.
        """
        kept = self._retention.seconds
        return None if kept is None or job.completed_at is None else job.completed_at + kept

    def picture(self, job_id: str) -> Path:
        """Where the picture of an unfinished job lies."""
        return self._files.picture(job_id)

    def video(self, job: Job) -> Path:
        """Where this attempt's video goes: each has its own, so that a late one overwrites nothing."""
        return self._files.video(job)

    def _claim(self, model: str | None, at_most: int) -> tuple[Job, ...]:
        claimed: list[Job] = []
        broken: list[Job] = []
        with self._transaction() as database:
            for job in rows.waiting(database, model):
                if len(claimed) == at_most:
                    break
                if job.unreadable:
                    message = f"this job cannot be read as it was stored: {job.unreadable}"
                    how = self._now_ends("failed", code="unreadable_request", message=message)
                    rows.end(database, how, "number = ?", job.number)
                    broken.append(job)
                elif not claimed or claimed[0].goes_with(job):
                    claimed.append(job)
            taken = tuple(rows.take(database, job, self._clock.wall()) for job in claimed)
        for job in broken:
            self._files.drop_picture(job.id)
        return taken

    def _end(self, job: Job, status: Status, **how: Any) -> bool:
        with self._transaction() as database:
            mine = "id = ? AND lease = ? AND status = 'in_progress'"
            ended = rows.end(database, self._now_ends(status, **how), mine, job.id, job.lease)
        if ended:
            self._files.drop_picture(job.id)
            self._files.drop_videos([job.id], but=job if status == "completed" else None)
            self._on_end(how.get("code") or status, how.get("seconds") or {})
        else:
            self._drop_late(job)
        return ended

    def _now_ends(self, status: Status, **how: Any) -> rows.End:
        return rows.End(status, self._clock.wall(), self._age(), **how)

    def _drop_late(self, job: Job) -> None:
        """Removes what an attempt has written that is over; unless it ended the job, and this is said twice."""
        current = self.get(job.id)
        if not (current and current.status == "completed" and current.lease == job.lease):
            self._files.drop_attempt(job)

    def _forget(self, job_ids: Sequence[str]) -> list[str]:
        """Removes these jobs, as far as they have ended; the files after the rows, so that no job lacks its video."""
        with self._transaction() as database:
            gone = rows.forget(database, job_ids)
        if gone:
            self._files.drop_videos(frozenset(gone))
        return gone

    def _known(self, database: sqlite3.Connection, key: str | None, fingerprint: str | None) -> Job | None:
        """The job that this key belongs to, if there is one; raises KeyReused if it is another one."""
        known = None if key is None else rows.with_key(database, key)
        if known is None:
            return None
        if known[1] != fingerprint:
            raise KeyReused("the idempotency key belongs to another video", "take a new key for each video")
        return known[0]

    def _refuse_if_full(self, database: sqlite3.Connection) -> None:
        if rows.count(database, "status = 'queued'") >= self.max_waiting:
            raise QueueFull(f"{self.max_waiting} jobs are waiting already", "try again in a while")

    def _begin_to_age(self) -> None:
        with self._transaction() as database:
            age, seen_at = rows.noted_age(database)
            absence = 0.0 if seen_at is None else self._retention.absence(self._clock.wall() - seen_at)
            self._born = self._clock.steady() - age - absence
            rows.note_age(database, self._age(), self._clock.wall())

    def _age(self) -> float:
        """The age of the store in seconds (see `runtime.retention`)."""
        return self._clock.steady() - self._born

    def _recover(self) -> None:
        """After a kill: what was in progress is queued again or given up, and files without a job go."""
        with self._transaction() as database:
            how = self._now_ends("failed", code="attempts_exhausted", message=_EXHAUSTED)
            rows.end(database, how, "status = 'in_progress' AND attempts >= ?", MAX_ATTEMPTS)
            rows.put_all_back(database)
            waiting = rows.attempts(database, "queued")
            completed = rows.attempts(database, "completed")
        self._files.drop_all_but({job_id for job_id, _ in waiting}, completed)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is on disk when it ends, or nothing is."""
        with self._mutex:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # after some errors SQLite has rolled back already
                    self._database.execute("ROLLBACK")
                raise


def _lock(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
    except BlockingIOError:
        file.close()
        raise RuntimeProblem(
            f"another server uses {path.parent}", "stop it, or give this one another --data-dir"
        ) from None
    return file


def _is_full(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
