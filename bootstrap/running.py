"""Which servers `run` has started: a note for each, there while it runs, by which other commands find it.

A note outlives a killed `run`; whether it still holds is seen by the processes it names, number and time of start.
So a number that the system has given to another process since is never taken for ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
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
        run_pid: the process of the command that started it, and looks after it.
        run_began: when that one was started.
        drain: for how many seconds a stop may wait for the job that is made.
        model: that it was started with, if that is known.
        environment: the name of the environment that it runs in.
        image: that it runs from.
        container: its name.
        engine: where the engine of that container is.
        log: the file that it keeps its log in.
        data: the directory of its jobs.
    """

    url: str
    port: int
    pid: int
    began: float
    run_pid: int = 0
    run_began: float = 0.0
    drain: float = 0.0
    model: str | None = None
    environment: str | None = None
    image: str | None = None
    container: str | None = None
    engine: str | None = None
    log: str | None = None
    data: str | None = None

    @property
    def mark(self) -> str:
        """What its container is labelled with: it tells containers of one name apart."""
        return f"{self.pid}-{self.began:.2f}"

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Its process, if that is there."""
        return _process(self.pid, self.began)

    def run_process(self) -> psutil.Process | None:
        """The process of the command that started it, if that is there."""
        return _process(self.run_pid, self.run_began)


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
    """The note is there while the block runs; this process is the one that looks after the server."""
    server = replace(server, run_pid=os.getpid(), run_began=process_began(os.getpid()))
    for old in abandoned(home):
        if old.container is None:  # else something of it may be left, which the note leads to
            forget(home, old)
    path = writable(home.running) / f"{server.port}-{server.pid}.json"  # never another living server's
    text = json.dumps(asdict(server), indent=2) + "\n"
    atomic.replace(path, text.encode(), path.with_name(f".{path.name}.{os.getpid()}"), private=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find(home: Home, port: int | None = None) -> Running | None:
    """The server that runs, on that port or at all; of several the one that was started last. Changes nothing."""
    return max(alive(home, port), key=lambda it: it.began, default=None)


def alive(home: Home, port: int | None = None) -> tuple[Running, ...]:
    """The servers that run, on that port or at all."""
    return tuple(it for it in _notes(home).values() if port in (None, it.port) and it.alive)


def abandoned(home: Home, port: int | None = None) -> tuple[Running, ...]:
    """Those whose process is gone and whose note is not: it was killed, and had no time to clear up."""
    return tuple(it for it in _notes(home).values() if port in (None, it.port) and not it.alive)


def forget(home: Home, server: Running) -> None:
    """Remove the note of one that was abandoned."""
    for path, noted in _notes(home).items():
        if noted == server:
            path.unlink(missing_ok=True)


def _notes(home: Home) -> dict[Path, Running]:
    found = {path: _read(path) for path in home.running.glob("*.json")}
    return {path: note for path, note in found.items() if note is not None}


def is_there(process: psutil.Process) -> bool:
    """Whether it runs: the same one, and not merely its exit code that nobody has asked for yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _process(pid: int, began: float) -> psutil.Process | None:
    with suppress(psutil.Error):
        found = psutil.Process(pid)
        if abs(found.create_time() - began) < _SAME_SECONDS and is_there(found):
            return found
    return None


def _read(path: Path) -> Running | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Running(**{field.name: told[field.name] for field in fields(Running) if field.name in told})
    except (OSError, ValueError, TypeError):
        return None
