"""The queue of jobs, on disk: what was acknowledged survives a kill of every process.

One SQLite file (WAL, synchronous=FULL) and two folders beside it: the pictures of unfinished jobs, and the
videos. A job belongs to one attempt at a time, named by its lease: whoever finishes it with an older lease
finishes nothing. Knows nothing of workers, of models or of HTTP.

    queued --claim--> in_progress --finish--> completed
      ^                    |------fail------> failed          (cancelled ones too, with the code "cancelled")
      +---- give_back -----+
"""

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem

#: How many jobs may wait, besides the one that runs.
MAX_WAITING = 5
#: How often a job is begun before it is given up: a job that kills its worker must not do so for ever.
MAX_ATTEMPTS = 3

Status = Literal["queued", "in_progress", "completed", "failed"]

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    status        TEXT NOT NULL DEFAULT 'queued',
    model         TEXT NOT NULL,
    request       TEXT NOT NULL,
    created_at    REAL NOT NULL,
    started_at    REAL,
    completed_at  REAL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    lease         INTEGER NOT NULL DEFAULT 0,
    error_code    TEXT,
    error_message TEXT,
    seconds       TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number);
"""


class QueueFull(RuntimeProblem):
    """As many jobs wait as may."""


@dataclass(frozen=True)
class Job:
    """One row of the queue. Times are seconds since 1970; `seconds` says how long each part took."""

    number: int
    id: str
    status: Status
    model: str
    request: GenerationRequest
    created_at: float
    started_at: float | None
    completed_at: float | None
    attempts: int
    lease: int
    error_code: str | None
    error_message: str | None
    seconds: Mapping[str, float]


class JobStore:
    """The jobs below one directory. Safe to use from several threads; one process at a time."""

    def __init__(self, root: Path, max_waiting: int = MAX_WAITING) -> None:
        """Opens or makes the store, and puts what a killed server was doing back into the queue.

        Raises:
            RuntimeProblem: Another server uses it, or it was written by another version.
        """
        self.max_waiting = max_waiting
        self._pictures, self._videos = root / "pictures", root / "videos"
        try:
            for folder in (root, self._pictures, self._videos):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file = _lock(root / "lock")
            self._database = _open(root / "jobs.sqlite3")
        except (OSError, sqlite3.Error) as error:
            raise RuntimeProblem(f"cannot use {root} for jobs: {error}", "give another --data-dir") from error
        self._mutex = threading.Lock()
        self._recover()

    def close(self) -> None:
        """Lets another process use the store."""
        with self._mutex:
            self._database.close()
            self._lock_file.close()

    def add(self, model: str, request: GenerationRequest, picture: bytes) -> Job:
        """Queues a job. When this returns, the job and its picture are on disk.

        Raises:
            QueueFull: As many wait as may.
        """
        job_id = f"video_{secrets.token_hex(16)}"
        self.check_room()
        _write(self.picture(job_id), picture)
        try:
            with self._transaction() as database:
                self._refuse_if_full(database)
                database.execute(
                    "INSERT INTO jobs (id, model, request, created_at) VALUES (?, ?, ?, ?)",
                    (job_id, model, request.to_json(), time.time()),
                )
                return _read(database, job_id)
        except BaseException:
            self.picture(job_id).unlink(missing_ok=True)
            raise

    def check_room(self) -> None:
        """Raises QueueFull if `add` would."""
        with self._transaction() as database:
            self._refuse_if_full(database)

    def get(self, job_id: str) -> Job | None:
        """The job of this id, if there is one."""
        with self._transaction() as database:
            return _find(database, job_id)

    def ahead_of(self, job: Job) -> int:
        """How many unfinished jobs come before this one."""
        with self._transaction() as database:
            return _count(database, "status IN ('queued', 'in_progress') AND number < ?", job.number)

    def claim(self) -> Job | None:
        """Takes the job that has waited longest, under a new lease."""
        with self._transaction() as database:
            row = database.execute("SELECT id FROM jobs WHERE status = 'queued' ORDER BY number LIMIT 1").fetchone()
            if row is None:
                return None
            database.execute(
                "UPDATE jobs SET status = 'in_progress', started_at = ?, attempts = attempts + 1, lease = lease + 1 "
                "WHERE id = ?",
                (time.time(), row["id"]),
            )
            return _read(database, row["id"])

    def finish(self, job: Job, seconds: Mapping[str, float]) -> bool:
        """Marks the job as completed; the video lies at `video(job)`. False if the lease is no longer good."""
        if self._end(job, "completed", seconds=seconds):
            return True
        current = self.get(job.id)
        if not (current and current.status == "completed" and current.lease == job.lease):
            self.video(job).unlink(missing_ok=True)
        return False

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
            database.execute(
                "UPDATE jobs SET status = 'queued', started_at = NULL, attempts = attempts - ? "
                "WHERE id = ? AND lease = ? AND status = 'in_progress'",
                (0 if counts else 1, job.id, job.lease),
            )

    def cancel(self, job_id: str) -> bool:
        """Ends an unfinished job as failed, with the code "cancelled". False if there is none of this id."""
        with self._transaction() as database:
            cancelled = _set_ended(
                database,
                "id = ? AND status IN ('queued', 'in_progress')",
                (job_id,),
                status="failed",
                code="cancelled",
                message="cancelled on request",
            )
        if cancelled:
            self.picture(job_id).unlink(missing_ok=True)
        return cancelled

    def remove(self, job_id: str) -> bool:
        """Forgets a finished job and its video. False if there is none of this id."""
        with self._transaction() as database:
            removed = database.execute(
                "DELETE FROM jobs WHERE id = ? AND status IN ('completed', 'failed')", (job_id,)
            ).rowcount
        for video in self._videos.glob(f"{job_id}.*") if removed else ():
            video.unlink(missing_ok=True)
        return removed > 0

    def picture(self, job_id: str) -> Path:
        """Where the picture of an unfinished job lies."""
        return self._pictures / f"{job_id}.png"

    def video(self, job: Job) -> Path:
        """Where this attempt's video goes: each has its own, so that a late one overwrites nothing."""
        return self._videos / f"{job.id}.{job.lease}.mp4"

    def _end(
        self,
        job: Job,
        status: Status,
        *,
        code: str | None = None,
        message: str | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> bool:
        with self._transaction() as database:
            ended = _set_ended(
                database,
                "id = ? AND lease = ? AND status = 'in_progress'",
                (job.id, job.lease),
                status=status,
                code=code,
                message=message,
                seconds=seconds,
            )
        if ended:
            self.picture(job.id).unlink(missing_ok=True)
        return ended

    def _refuse_if_full(self, database: sqlite3.Connection) -> None:
        if _count(database, "status = 'queued'") >= self.max_waiting:
            raise QueueFull(f"{self.max_waiting} jobs are waiting already", "try again in a while")

    def _recover(self) -> None:
        """After a kill: what was in progress is queued again or given up, and files without a job go."""
        with self._transaction() as database:
            _set_ended(
                database,
                "status = 'in_progress' AND attempts >= ?",
                (MAX_ATTEMPTS,),
                status="failed",
                code="attempts_exhausted",
                message=_EXHAUSTED,
            )
            database.execute("UPDATE jobs SET status = 'queued', started_at = NULL WHERE status = 'in_progress'")
            rows = database.execute("SELECT id, status, lease FROM jobs").fetchall()
        keep = {f"{row['id']}.png" for row in rows if row["status"] == "queued"}
        keep |= {f"{row['id']}.{row['lease']}.mp4" for row in rows if row["status"] == "completed"}
        for folder in (self._pictures, self._videos):
            for path in folder.iterdir():
                if path.name not in keep:
                    path.unlink()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is on disk when it ends, or nothing is."""
        with self._mutex:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


_EXHAUSTED = f"the worker process ended {MAX_ATTEMPTS} times while it worked on this job"


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _SCHEMA_VERSION):
        raise RuntimeProblem(f"{path} was written by another version", "give another --data-dir")
    database.executescript(f"{_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};")
    return database


def _lock(path: Path) -> Any:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
    except BlockingIOError:
        file.close()
        raise RuntimeProblem(
            f"another server uses {path.parent}", "stop it, or give this one another --data-dir"
        ) from None
    return file


def _write(path: Path, data: bytes) -> None:
    """Writes the file and waits until it, and its name, are on disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _set_ended(
    database: sqlite3.Connection,
    where: str,
    values: tuple[Any, ...],
    *,
    status: Status,
    code: str | None = None,
    message: str | None = None,
    seconds: Mapping[str, float] | None = None,
) -> bool:
    # The conditions are ours; the values are bound.
    columns = "status = ?, error_code = ?, error_message = ?, seconds = ?, completed_at = ?"
    statement = f"UPDATE jobs SET {columns} WHERE {where}"  # noqa: S608
    ended = (status, code, message, json.dumps(seconds or {}), time.time())
    return database.execute(statement, (*ended, *values)).rowcount > 0


def _count(database: sqlite3.Connection, where: str, *values: Any) -> int:
    row = database.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()  # noqa: S608 - as above
    return int(row[0])


def _find(database: sqlite3.Connection, job_id: str) -> Job | None:
    row = database.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return None
    values = dict(row)
    values["request"] = GenerationRequest.from_json(values["request"])
    values["seconds"] = json.loads(values["seconds"])
    return Job(**values)


def _read(database: sqlite3.Connection, job_id: str) -> Job:
    job = _find(database, job_id)
    assert job is not None
    return job
