"""Is a server running, and what is it at: from the note that `run` left, its own answers, its process and its log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bootstrap import abandoned, running
from bootstrap.abandoned import Abandoned
from bootstrap.asking import Asking
from bootstrap.running import Running
from bootstrap.state import Home
from bootstrap.units import seconds, size
from runtime import kept_jobs, logs

_JOBS = 100  # as many as one answer may hold
_ERRORS = 3


@dataclass(frozen=True)
class AtWork:
    """The job that the server is at; how far is None where it does not tell us."""

    job: str
    step: int | None = None
    steps: int | None = None
    remaining_s: float | None = None


@dataclass(frozen=True)
class Status:
    """A server as it is now; None where that is not known.

    Attributes:
        running: whether there is one.
        ready: whether it takes jobs.
        server: what `run` noted of it.
        found: how it was found.
        model: that it serves, or loads.
        device: what the model runs on.
        precision: what it is computed in.
        residency: where its weights wait.
        reloading: the model that is being loaded meanwhile.
        problem: why it is not ready.
        restarts: how often its worker was replaced.
        waiting: jobs in the queue.
        at: the job that is made.
        memory: bytes of main memory that its processes have, each shared one counted once.
        device_memory: bytes that the device has, and those that the model and a video had when it was last asked.
        uptime_s: since its process was started.
        last_errors: what its log says of errors, the newest last.
        abandoned: containers whose `run` was killed.
    """

    running: bool
    ready: bool = False
    server: Running | None = None
    found: str = ""
    model: str | None = None
    device: str | None = None
    precision: str | None = None
    residency: Mapping[str, Any] | None = None
    reloading: str | None = None
    problem: str | None = None
    restarts: int | None = None
    waiting: int | None = None
    at: AtWork | None = None
    memory: int | None = None
    device_memory: Mapping[str, int] | None = None
    uptime_s: float | None = None
    last_errors: Sequence[str] = ()
    abandoned: Sequence[Abandoned] = ()


def status(home: Home, port: int | None = None) -> Status:
    """What is known of the server that runs here, on that port or at all. Changes nothing."""
    server, left = running.find(home, port), abandoned.find(home, port)
    if server is None:
        return Status(running=False, last_errors=_errors(running.log_file(home)), abandoned=left)
    with Asking(home, server.url) as asking:
        ready = _of_this_one(asking.document("/ready", refused=True), server)
        queue = _queue(asking, server) if ready else None
    told: Mapping[str, Any] = ready or {}
    how = "it answers" if ready else "its process is there, but nothing answers yet"
    return Status(
        running=True,
        ready=bool(told.get("ready")),
        server=server,
        found=f"noted by `i2v-setup run`, pid {server.pid}; {how}",
        model=told.get("model") or server.model,
        **{name: told.get(name) for name in ("device", "precision", "residency", "reloading", "restarts")},
        problem=told.get("error") or told.get("reload_error"),
        waiting=queue[0] if queue else None,
        at=queue[1] if queue else None,
        memory=None if server.container else _memory(server.pid),
        device_memory=told.get("memory"),
        uptime_s=round(time.time() - server.began, 1),
        last_errors=_errors(Path(server.log)) if server.log else (),
        abandoned=left,
    )


def is_stopping(home: Home, server: Running) -> bool:
    """Whether it was told to end, and finishes a job first."""
    with Asking(home, server.url) as asking:
        told = _of_this_one(asking.document("/ready", refused=True), server)
    return bool(told and told.get("stopping"))


def progress(home: Home, server: Running) -> str:
    """The job that is made, and how far it is, in a line; empty where that is not known."""
    with Asking(home, server.url) as asking:
        queue = _queue(asking, server)
    return _at_work(queue[1]) if queue and queue[1] else ""


def rows(found: Status) -> Iterator[tuple[str, str]]:
    """What it says to a person, line by line."""
    server = found.server
    if server is None:
        yield "server", "not running: start it with `i2v-setup run`"
    else:
        yield "server", f"{'ready' if found.ready else 'not ready'}: {server.url}"
        yield "found", found.found
        yield from _of_the_model(found)
        yield "queue", "not known: set I2V_API_KEY" if found.waiting is None else f"{found.waiting} waiting"
        yield "at work", _at_work(found.at)
        if found.memory is not None:
            yield "memory", f"{size(found.memory)} of main memory"
        if room := found.device_memory:
            yield "on the device", f"{size(room['available'])} of {size(room['total'])} for the model and a video"
        yield "up", f"{seconds(found.uptime_s or 0)}; worker restarts: {found.restarts or 0}"
        if server.environment:
            yield "environment", server.environment
        if server.image:
            yield "image", f"{server.image}, in the container {server.container}"
        if server.log:
            yield "log", server.log
    for line in found.last_errors:
        yield "last errors", logs.readable(line)
    yield from _left(found)


def _left(found: Status) -> Iterator[tuple[str, str]]:
    for it in found.abandoned:
        if it.up:
            yield "left running", f"the container {it.server.container}, whose `run` was killed: i2v-setup stop"
        elif it.up is None:
            yield "perhaps left", f"the container {it.server.container}, whose `run` was killed: {it.reason}"


def _of_the_model(found: Status) -> Iterator[tuple[str, str]]:
    if found.problem:
        yield "problem", found.problem
    yield "model", f"{found.model or 'not known'}{f', loading {found.reloading}' if found.reloading else ''}"
    if found.device:
        yield "device", f"{found.device}, {found.precision}"


def _at_work(at: AtWork | None) -> str:
    if at is None:
        return "nothing"
    how = f": step {at.step} of {at.steps}" if at.steps else ""
    return f"{at.job}{how}{f', {seconds(at.remaining_s)} left' if at.remaining_s is not None else ''}"


def _of_this_one(ready: Mapping[str, Any] | None, server: Running) -> Mapping[str, Any] | None:
    """An answer of the server that we mean: somebody else's may have the port."""
    if ready is None or "phases" not in ready:
        return None
    return ready if server.container or ready.get("pid") == server.pid else None


def _queue(asking: Asking, server: Running) -> tuple[int, AtWork | None] | None:
    """How many wait, and what is made; from its file where it does not tell. None: neither can be read."""
    page = asking.document(f"/v1/videos?limit={_JOBS}")
    if page is not None and isinstance(page.get("data"), list):
        states = [(str(video["id"]), str(video["status"])) for video in page["data"]]
    elif server.data:
        states = [(job.id, job.status) for job in kept_jobs.newest(Path(server.data), _JOBS)]
    else:
        return None
    current = next((job for job, state in states if state == "in_progress"), None)
    at = None
    if current is not None:
        told = asking.document(f"/v1/videos/{current}") or {}
        at = AtWork(current, told.get("step"), told.get("steps"), told.get("remaining_s"))
    return sum(state == "queued" for _, state in states), at


def _memory(pid: int) -> int | None:
    """Of a process and its children; what several share counts once, where the system tells."""
    total = 0
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):
                found = process.memory_full_info()
                total += getattr(found, "pss", 0) or found.uss
    return total or None


def _errors(path: Path) -> tuple[str, ...]:
    try:
        return tuple(logs.last_errors(path, _ERRORS))
    except OSError:
        return ()
