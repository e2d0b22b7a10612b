"""The jobs of a server that does not run, or that is not asked: read from its file, which is left as it is.

Standard library alone: the tool that shows them imports this too.
"""

import contextlib
import sqlite3
from pathlib import Path

from runtime import job_rows
from runtime.job import Job

DATABASE = "jobs.sqlite3"


def newest(data_dir: Path, count: int) -> list[Job]:
    """The last jobs of the server that keeps them there, the newest first; none if there is nothing that can be read.

    A running server is not disturbed, and what it writes meanwhile is seen whole or not at all.
    """
    path = data_dir / DATABASE
    if not path.is_file():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            database.text_factory = lambda text: text.decode(errors="surrogateescape")
            return job_rows.page(database, count, None, newest_first=True)
    except (sqlite3.Error, IndexError, KeyError, TypeError, ValueError):  # an older layout, or damage
        return []
