"""The SQLite file of the job store: its tables, and how a file of an older version becomes one of this version.

The version of a file is its `user_version`. Knows nothing of what the rows mean.
"""

import sqlite3
from pathlib import Path

from runtime.problems import RuntimeProblem

#: What makes the next version out of each, beginning with an empty file. What has been released is never changed.
_STEPS = (
    """
    CREATE TABLE jobs (
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
    CREATE INDEX jobs_by_status ON jobs (status, number);
    """,
    # The time of what had ended before begins now: nobody was told then that it would be removed.
    """
    ALTER TABLE jobs ADD COLUMN key TEXT;
    ALTER TABLE jobs ADD COLUMN fingerprint TEXT;
    ALTER TABLE jobs ADD COLUMN ended_age REAL;
    UPDATE jobs SET ended_age = 0 WHERE status IN ('completed', 'failed');
    CREATE UNIQUE INDEX jobs_by_key ON jobs (key) WHERE key IS NOT NULL;
    CREATE TABLE store (age REAL NOT NULL, seen_at REAL);
    INSERT INTO store VALUES (0, NULL);
    """,
)


def open_database(path: Path) -> sqlite3.Connection:
    """Opens or makes the file, in this version. Each of its transactions is on disk when it is committed.

    Raises:
        RuntimeProblem: A newer version wrote it.
        sqlite3.Error: It cannot be used.
    """
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.row_factory = sqlite3.Row
        # Bytes that are not text do not raise here, where nothing can be done about them: whoever reads them sees it.
        database.text_factory = lambda text: text.decode(errors="surrogateescape")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        _bring_up_to_date(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _bring_up_to_date(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_STEPS):
        raise RuntimeProblem(f"{path} was written by a newer version", "update, or give another --data-dir")
    if version < len(_STEPS):
        script = "".join(_STEPS[version:])  # all of it, or after a kill nothing of it
        database.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {len(_STEPS)}; COMMIT;")
