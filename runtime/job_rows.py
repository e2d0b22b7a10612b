"""What the job store says to its database, each within a transaction that somebody else begins and ends.

Knows nothing of files, of clocks or of threads.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from runtime.job import Job, Status, read_job
from runtime.options import GenerationRequest

#: Conditions that several statements share.
UNFINISHED = "status IN ('queued', 'in_progress')"
FINISHED = "status IN ('completed', 'failed')"


@dataclass(frozen=True)
class End:
    """How a job ended, and when: by the wall clock, and by the age of the store."""

    status: Status
    at: float
    age: float
    code: str | None = None
    message: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def find(database: sqlite3.Connection, job_id: str) -> Job | None:
    """The job of this id, if there is one."""
    return _job(database.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone())


def get(database: sqlite3.Connection, job_id: str) -> Job:
    """The job of this id, which is there."""
    job = find(database, job_id)
    assert job is not None
    return job


def with_key(database: sqlite3.Connection, key: str) -> tuple[Job, str] | None:
    """The job that a client gave this key, if there is one, and its fingerprint."""
    row = database.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()
    return (read_job(row), row["fingerprint"]) if row else None


def page(database: sqlite3.Connection, limit: int, after: Job | None, *, newest_first: bool) -> list[Job]:
    """So many jobs in the order in which they came, or in the other one."""
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    where, values = (f"number {beyond} ?", (after.number, limit)) if after else ("TRUE", (limit,))
    return _jobs(database, f"{where} ORDER BY number {order} LIMIT ?", *values)


def waiting(database: sqlite3.Connection, model: str | None) -> list[Job]:
    """The queue; with `model`, of that model alone."""
    return _jobs(database, "status = 'queued' AND (? IS NULL OR model = ?) ORDER BY number", model, model)


def unfinished(database: sqlite3.Connection) -> list[Job]:
    """The queue, and what is worked at."""
    return _jobs(database, f"{UNFINISHED} ORDER BY number")


def count(database: sqlite3.Connection, where: str, *values: Any) -> int:
    """How many jobs there are of which the condition holds."""
    row = database.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()  # noqa: S608 - ours
    return int(row[0])


def counts(database: sqlite3.Connection) -> dict[Status, int]:
    """How many jobs there are of each status."""
    found = dict(database.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())
    return {status: found.get(status, 0) for status in get_args(Status)}


def models_waiting(database: sqlite3.Connection) -> tuple[str, ...]:
    """The models of unfinished jobs, in the order of the jobs."""
    statement = f"SELECT model FROM jobs WHERE {UNFINISHED} GROUP BY model ORDER BY min(number)"  # noqa: S608 - ours
    return tuple(row["model"] for row in database.execute(statement))


def insert(
    database: sqlite3.Connection,
    job_id: str,
    model: str,
    request: GenerationRequest,
    now: float,
    key: tuple[str | None, str | None],
) -> Job:
    """A new job at the end of the queue; `key` comes with its fingerprint."""
    database.execute(
        "INSERT INTO jobs (id, model, request, created_at, key, fingerprint) VALUES (?, ?, ?, ?, ?, ?)",
        (job_id, model, request.to_json(), now, *key),
    )
    return get(database, job_id)


def take(database: sqlite3.Connection, job: Job, now: float) -> Job:
    """A new attempt at a job begins, under a new lease."""
    database.execute(
        "UPDATE jobs SET status = 'in_progress', started_at = ?, attempts = attempts + 1, lease = lease + 1 "
        "WHERE number = ?",
        (now, job.number),
    )
    return get(database, job.id)


def put_back(database: sqlite3.Connection, job: Job, *, counts: bool) -> None:
    """The attempt has ended without an end of the job, which takes its old place in the queue."""
    database.execute(
        "UPDATE jobs SET status = 'queued', started_at = NULL, attempts = attempts - ? "
        "WHERE id = ? AND lease = ? AND status = 'in_progress'",
        (0 if counts else 1, job.id, job.lease),
    )


def put_all_back(database: sqlite3.Connection) -> None:
    """All attempts have ended so."""
    database.execute("UPDATE jobs SET status = 'queued', started_at = NULL WHERE status = 'in_progress'")


def end(database: sqlite3.Connection, end: End, where: str, *values: Any) -> bool:
    """Ends the jobs of which the condition holds. False if there is none."""
    note_age(database, end.age, end.at)
    columns = "status = ?, error_code = ?, error_message = ?, seconds = ?, completed_at = ?, ended_age = ?"
    how = (end.status, end.code, end.message, json.dumps(dict(end.seconds)), end.at, end.age)
    statement = f"UPDATE jobs SET {columns} WHERE {where}"  # noqa: S608 - ours
    return database.execute(statement, (*how, *values)).rowcount > 0


def finished(database: sqlite3.Connection) -> list[tuple[str, float]]:
    """All finished jobs, from the newest to the oldest: the id, and the age of the store when it ended."""
    statement = f"SELECT id, ended_age FROM jobs WHERE {FINISHED} ORDER BY ended_age DESC, number DESC"  # noqa: S608
    return [(row["id"], row["ended_age"]) for row in database.execute(statement)]


def forget(database: sqlite3.Connection, job_ids: Iterable[str]) -> list[str]:
    """Removes these jobs, as far as they are finished. Those it has removed."""
    statement = f"DELETE FROM jobs WHERE id = ? AND {FINISHED}"  # noqa: S608 - ours
    return [job_id for job_id in job_ids if database.execute(statement, (job_id,)).rowcount]


def attempts(database: sqlite3.Connection, status: Status) -> set[tuple[str, int]]:
    """The id and the lease of all jobs of this status."""
    rows = database.execute("SELECT id, lease FROM jobs WHERE status = ?", (status,))
    return {(row["id"], row["lease"]) for row in rows}


def note_age(database: sqlite3.Connection, age: float, now: float) -> None:
    """Keeps the age of the store, and when it was so."""
    database.execute("UPDATE store SET age = ?, seen_at = ?", (age, now))


def noted_age(database: sqlite3.Connection) -> tuple[float, float | None]:
    """What was kept last; None: nothing was."""
    row = database.execute("SELECT age, seen_at FROM store").fetchone()
    return row["age"], row["seen_at"]


def _jobs(database: sqlite3.Connection, where: str, *values: Any) -> list[Job]:
    return [read_job(row) for row in database.execute(f"SELECT * FROM jobs WHERE {where}", values)]  # noqa: S608 - ours


def _job(row: Any) -> Job | None:
    return read_job(row) if row else None
