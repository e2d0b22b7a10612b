"""Which servers `run` has started: a note for each, there while it runs, by which other commands find it.

A note outlives a killed `run`; whether it still holds is seen by the process it names, number and time of start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from bootstrap import atomic
from bootstrap.errors import SetupError
from bootstrap.state import Home, writable

_SAME_SECONDS = 2.0  # the start of a process, told twice


@dataclass(frozen=True)
class Running:
    """A server.

    Attributes:
        url: where it answers, from this machine.
        port: that it listens on.
        pid: its process; in a container, the one of the command that started it.
        began: when that process was started, in seconds since 1970.
        model: that it was started with, if that is known.
        environment: the name of the environment that it runs in.
        image: that it runs from.
        container: its name.
        log: the file that it keeps its log in.
        data: the directory of its jobs.
    """

    url: str
    port: int
    pid: int
    began: float
    model: str | None = None
    environment: str | None = None
    image: str | None = None
    container: str | None = None
    log: str | None = None
    data: str | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        with suppress(psutil.Error):
            return abs(psutil.Process(self.pid).create_time() - self.began) < _SAME_SECONDS
        return False


def log_file(home: Home) -> Path:
    """Where the local server keeps its log."""
    return home.logs / "server.log"


def process_began(pid: int) -> float:
    """When a process of ours was started.

    Raises:
        SetupError: it is gone already.
    """
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error as error:
        raise SetupError("the server ended at once", "its reason stands above") from error


@contextmanager
def noted(home: Home, server: Running) -> Iterator[None]:
    """The note is there while the block runs."""
    path = writable(home.running) / f"{server.port}.json"
    text = json.dumps(asdict(server), indent=2) + "\n"
    atomic.replace(path, text.encode(), path.with_name(f".{path.name}.{os.getpid()}"), private=True)
    try:
        yield
    finally:
        if _read(path) == server:  # else another one has the port by now
            path.unlink(missing_ok=True)


def find(home: Home, port: int | None = None) -> Running | None:
    """The server that runs, on that port or at all; of several the one that was started last. Changes nothing."""
    notes = (_read(path) for path in home.running.glob("*.json"))
    alive = [it for it in notes if it is not None and port in (None, it.port) and it.alive]
    return max(alive, key=lambda it: it.began, default=None)


def _read(path: Path) -> Running | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Running(**{field.name: told[field.name] for field in fields(Running) if field.name in told})
    except (OSError, ValueError, TypeError):
        return None
