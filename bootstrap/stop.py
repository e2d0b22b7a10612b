"""The stop command: has the `run` that looks after a server end it, and clears up after one that was killed.

`run` itself knows how to stop what it started: it is asked as by Ctrl-C, and waited for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bootstrap import abandoned, running, server_status, supervision
from bootstrap.abandoned import Abandoned
from bootstrap.console import Console, Task
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.running import Running
from bootstrap.state import Home
from bootstrap.units import seconds
from runtime import kept_jobs

_POLL = 0.1  # seconds
_LOOK = 2.0  # seconds between two questions how far the last job is
_BETWEEN = 1.0  # seconds between two requests to end, so that they count as two
_PATIENCE = 45.0  # seconds beyond a drain: `run` insists before
_SHOWN = 1000  # jobs that are counted at most


def stop(home: Home, console: Console, port: int | None = None, *, at_once: bool = False) -> None:
    """Stop the server on that port, or the one that runs; that there is none is said, and is no error.

    Raises:
        UsageProblem: several run, and it was not said which one.
        SetupError: it is a service, somebody else's, or does not end.
        ImageError: the engine does not remove its container.
    """
    servers = running.alive(home, port)
    unattended = [it.server for it in abandoned.find(home, port) if it.up]
    _require_one([*servers, *unattended])
    for server in servers:
        _end(home, server, console, at_once=at_once)
    _clear_up(home, abandoned.find(home, port), console, at_once=at_once)  # anew: it may have been killed meanwhile
    if not servers and not unattended:
        _say_nothing_runs(home, port, console)


def _require_one(servers: Sequence[Running]) -> None:
    if len(servers) > 1:
        ports = ", ".join(sorted(str(it.port) for it in servers))
        raise UsageProblem(f"{len(servers)} servers run, on the ports {ports}", "say which one: --port N")


def _end(home: Home, server: Running, console: Console, *, at_once: bool) -> None:
    if command := supervision.stop_command(server.run_pid or server.pid):
        raise SetupError(f"the server on port {server.port} is a service: systemd has to stop it", command)
    stopping, seen = server_status.is_stopping(home, server), set[psutil.Process]()
    _processes(server, seen)
    if server.drain and not at_once:
        console.say(f"a job that is made is finished first, for {server.drain:g} s at most; --at-once does not wait")
    with console.working(f"stop the server on port {server.port}") as task:
        # The first request lets it finish a job, the second ends it at once; one that is stopping has had the first.
        if at_once or not stopping:
            _ask(server)
        _wait(home, server, task, seen, again=at_once and not stopping, at_once=at_once)
    console.say(f"stopped: {server.url}{_kept(server)}", "bold green")


def _ask(server: Running) -> None:
    """Ask for an end, by the signal that means just that.

    Raises:
        SetupError: it is somebody else's.
    """
    process = server.run_process() or server.process()  # that of a killed `run` is asked itself
    try:
        if process is not None:
            process.terminate()  # looks again whether it is the same process
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise SetupError(
            f"the server on port {server.port} is another user's: no right to end process {server.pid}",
            "stop it as that user, or with sudo",
        ) from error


def _wait(home: Home, server: Running, task: Task, seen: set[psutil.Process], *, again: bool, at_once: bool) -> None:
    """Wait for the server, its `run` and its worker to end; ask `again` after a moment, if that is wanted.

    Raises:
        SetupError: they do not.
    """
    began = looked = time.monotonic()
    end = began + _PATIENCE + (0 if at_once else server.drain)
    while there := _processes(server, seen):
        now = time.monotonic()
        if again and now - began >= _BETWEEN:
            again = False
            _ask(server)
        if now > end:
            pids = " ".join(str(process.pid) for process in there)
            hint = f"kill -9 {pids}" if at_once else "i2v-setup stop --at-once"
            raise SetupError(f"the server has not ended after {seconds(now - began)}: process {pids}", hint)
        if now - looked >= _LOOK:
            looked = now
            task.say(server_status.progress(home, server))
        time.sleep(_POLL)


def _processes(server: Running, seen: set[psutil.Process]) -> list[psutil.Process]:
    """What still runs of those that were seen, and of those that there are by now, which are seen too.

    The worker may be the last to end, and has the GPU's memory until then.
    """
    for process in (server.run_process(), server.process()):
        with suppress(psutil.Error):
            seen.update([process, *process.children(recursive=True)] if process else [])
    return [process for process in seen if running.is_there(process)]


def _clear_up(home: Home, left: Sequence[Abandoned], console: Console, *, at_once: bool) -> None:
    for it in left:
        name = it.server.container
        if it.up is None:
            console.warn(f"the `run` of the container {name} was killed; whether it runs on is not known: {it.reason}")
            continue
        if it.up:
            console.say(f"the container {name} runs on although its `run` was killed")
        with console.working(f"remove the container {name}"):
            was_there = abandoned.remove(home, it.server, at_once=at_once)
        if was_there:
            console.say(f"removed: the container {name}{_kept(it.server)}", "bold green")


def _kept(server: Running) -> str:
    """What stays for the next start."""
    if server.container is not None:
        return f" (its jobs and videos stay in the volume {server.container}-data)"
    jobs = kept_jobs.newest(Path(server.data), _SHOWN) if server.data else ()
    waiting = sum(job.status == "queued" for job in jobs)
    return f" ({waiting} {'job waits' if waiting == 1 else 'jobs wait'} for the next start)" if waiting else ""


def _say_nothing_runs(home: Home, port: int | None, console: Console) -> None:
    others = running.alive(home)
    console.say(f"no server runs{f' on port {port}' if port else ''}: nothing to stop")
    for other in others:
        console.say(f"there is one on port {other.port}: i2v-setup stop --port {other.port}")
    known = {other.container for other in others}
    for name in _started_elsewhere(console):
        if name not in known:
            console.say(f"the container {name} is a server too, but was not started from here: docker stop {name}")


def _started_elsewhere(console: Console) -> tuple[str, ...]:
    """Containers of servers, whoever started them; none where no engine answers."""
    from images import container, engine
    from images.errors import EngineUnavailable

    try:
        with console.working("ask the Docker engine"), engine.connect() as connected:
            return container.names(connected)
    except EngineUnavailable:
        return ()
