"""One installation at a time: the others wait, and say for whom.

The lock is the kernel's, so that it goes with the process that holds it. Beside it lies who that is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from bootstrap import atomic
from bootstrap.console import Console
from bootstrap.errors import SetupError
from bootstrap.recorder import Recorder
from bootstrap.state import Home, writable

_POLL = 0.2  # seconds
_TELL = 1.0  # seconds between two looks at who it is


@contextmanager
def installing(home: Home, console: Console, recorder: Recorder) -> Iterator[None]:
    """The right to change environments, until the block ends. Waits for whoever has it."""
    lock = FileLock(writable(home.data) / ".install.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with recorder.phase("wait", "wait for another installation"):
            _wait(lock, home, console)
    try:
        _sign(home)
        yield
    finally:
        _holder(home).unlink(missing_ok=True)
        lock.release()


@contextmanager
def undisturbed(home: Home) -> Iterator[None]:
    """Neither an installation nor the fetching of a model's weights goes on while the block runs.

    Raises:
        SetupError: one of them does.
    """
    locks = [FileLock(path) for path in (home.data / ".install.lock", home.cache / ".models.lock") if path.exists()]
    try:
        for lock in locks:
            lock.acquire(timeout=0)
        yield
    except Timeout:
        raise SetupError(f"{who(home)} is under way", "run the command again when it has ended") from None
    finally:
        for lock in locks:
            lock.release()


def who(home: Home) -> str:
    """Who holds the lock, for people."""
    try:
        told = json.loads(_holder(home).read_text(encoding="utf-8"))
        return f"another installation (process {int(told['pid'])}, since {told['since']})"
    except (OSError, ValueError, TypeError, KeyError):
        return "another installation"


def _wait(lock: FileLock, home: Home, console: Console) -> None:
    """Until the other one is done; Ctrl-C ends it."""
    console.say(f"{who(home)} is under way; waiting for it to end (Ctrl-C to give up)")
    with console.working("wait for the other installation") as task:
        told = time.monotonic()
        while True:
            with suppress(Timeout):
                lock.acquire(timeout=_TELL, poll_interval=_POLL)
                return
            task.say(f"{who(home)}, {time.monotonic() - told:.0f} s")


def _sign(home: Home) -> None:
    since = datetime.now(timezone.utc).astimezone().strftime("%H:%M:%S")
    text = json.dumps({"pid": os.getpid(), "since": since})
    atomic.replace(_holder(home), text.encode(), _holder(home).with_suffix(".tmp"), private=False)


def _holder(home: Home) -> Path:
    return home.data / ".install.json"
