"""The log that the local server keeps: its last lines, the coming ones, and a summary for a bug report."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, TextIO

from bootstrap import current, deployments, generations, running
from bootstrap.asking import Asking
from bootstrap.errors import SetupError
from bootstrap.generations import Generation
from bootstrap.report import Section
from bootstrap.running import Running
from bootstrap.server_status import status
from bootstrap.state import Home
from runtime import __version__, kept_jobs, logs, summary
from runtime.summary import Facts
from runtime.timing import Phase

_POLL = 0.2  # seconds between two looks for more


def lines(home: Home, count: int, *, follow: bool) -> Iterator[str]:
    """The last lines of the log as they were kept, and with `follow` those that come, without end.

    Raises:
        SetupError: there is no log, or the server that runs keeps it elsewhere.
    """
    path = running.log_file(home)
    server = running.find(home)
    if server is not None and server.container:
        raise SetupError(
            f"the server runs in the container {server.container}, which keeps its log",
            f"docker logs{' --follow' if follow else ''} --tail {count} {server.container}",
        )
    files = logs.kept_files(path)
    if follow:
        yield from _followed(path, logs.last([one for one in files if one != path], count), count)
    elif files:
        yield from logs.last(files, count)
    else:
        raise SetupError("there is no log yet: no server has run here", "start one: i2v-setup run")


def summed_up(home: Home) -> str:
    """What to paste into a bug report: of the server that runs as it says itself, else from what it left."""
    server, ready = running.find(home), None
    if server is not None:
        with Asking(home, server.url) as asking:
            if told := asking.document("/v1/summary"):
                return str(told.get("text", ""))
            ready = asking.document("/ready", refused=True)
    return summary.text(_facts(home, server, ready or {}))


def _facts(home: Home, server: Running | None, ready: Mapping[str, Any]) -> Facts:
    found = status(home)
    state = "not running" if not found.running else "ready" if found.ready else "not ready"
    residency = ", ".join(f"{name} {value}" for name, value in (found.residency or {}).items())
    phases = [Phase(str(it["name"]), float(it["started"]), float(it["seconds"])) for it in ready.get("phases", ())]
    last = _last_start(home)
    facts = last.facts if last and not found.running else {}
    return Facts(
        versions=_versions(_generation(home, server)),
        state=f"{state}{f': {found.problem}' if found.problem else ''}",
        device=found.device or facts.get("device"),
        model=found.model or facts.get("model"),
        precision=found.precision or facts.get("precision"),
        residency=residency or None,
        settings=_settings(server),
        phases=phases or [Phase(it.phase, it.started, it.seconds) for it in (last.timings if facts and last else ())],
        jobs=[summary.of_job(job) for job in kept_jobs.newest(home.server, summary.MOST)],
        errors=logs.last_errors(running.log_file(home), summary.MOST),
    )


def _last_start(home: Home) -> Section | None:
    """What the last deployment's server told when it was started last."""
    deployed = deployments.find_last(home)
    return next((it for it in deployed.sections if it.kind == "run"), None) if deployed else None


def _settings(server: Running | None) -> dict[str, object]:
    if server is None:
        return {}
    return {"port": server.port, "environment": server.environment or server.image or ""}


def _generation(home: Home, server: Running | None) -> Generation | None:
    if server is not None and server.environment:
        return generations.find(home.environments / server.environment)
    try:
        return current.current(home)
    except SetupError:
        return None


def _versions(generation: Generation | None) -> dict[str, str]:
    """Ours, and what is in an environment, by its records."""
    found = {"i2v-setup": __version__}
    if generation is None:
        return found
    found["python"] = generation.python
    places = [str(path) for path in generation.path.glob("lib/python*/site-packages")]
    for it in distributions(path=places):
        if it.name in summary.PACKAGES:
            found[it.name] = it.version
    return found


def _followed(path: Path, older: Iterable[str], count: int) -> Iterator[str]:
    """The last of the older lines and of those in the file, then what comes; over to the next file when one is begun.

    One handle reads both, so that no line is lost in between or told twice.
    """
    recent: deque[str] | None = deque(older, maxlen=count)
    file: TextIO | None = None
    begun = ""
    try:
        while True:
            while file and (piece := file.readline()):
                begun += piece
                if not begun.endswith("\n"):
                    continue
                line, begun = begun.rstrip("\n"), ""
                if recent is None:
                    yield line
                else:
                    recent.append(line)
            if _is_another(path, file):
                if file:
                    file.close()
                file = path.open(encoding="utf-8", errors="replace")
                continue
            yield from recent or ()
            recent = None
            time.sleep(_POLL)
    finally:
        if file:
            file.close()


def _is_another(path: Path, file: TextIO | None) -> bool:
    """Whether the path leads to another file by now."""
    try:
        now = path.stat().st_ino
    except FileNotFoundError:
        return False
    return file is None or now != os.fstat(file.fileno()).st_ino
