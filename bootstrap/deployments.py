"""The timing reports of the last deployments, each in a file of its own: kept, and found again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock

from bootstrap import report_json
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.report import Deployment, Section
from bootstrap.state import Home, writable

KEPT = 100  # deployments
_OPENING = ("install", "build-image")  # the sections that begin a deployment


def save(home: Home, section: Section) -> Deployment:
    """Store a section: an install or a build begins a new deployment, others replace their like in the last one."""
    with FileLock(writable(home.deployments) / ".lock"):  # a generation and a server may end at once
        return _save(home, section)


def _save(home: Home, section: Section) -> Deployment:
    last = None if section.kind in _OPENING else find_last(home)
    if last is None:
        deployment = Deployment(datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S-%f"), (section,))
    else:
        others = tuple(s for s in last.sections if s.kind != section.kind)
        deployment = replace(last, sections=(*others, section))
    path = home.deployments / f"{deployment.id}.json"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(report_json.write(deployment), encoding="utf-8")
    temporary.replace(path)
    for old in _paths(home)[KEPT:]:
        old.unlink(missing_ok=True)
    return deployment


def kept(home: Home) -> Iterator[Deployment]:
    """All deployments that can be read, the newest first."""
    for path in _paths(home):
        try:
            yield report_json.read(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue


def find_last(home: Home) -> Deployment | None:
    """The newest deployment, if there is one."""
    return next(kept(home), None)


def find(home: Home, which: str) -> Deployment:
    """The deployment of that id, or of the only one that begins so; or the "last", or the "previous" one.

    Raises:
        SetupError: nothing was deployed yet. UsageProblem: there is no such deployment, or more than one.
    """
    newest_first = list(kept(home))
    if not newest_first:
        raise SetupError("there is no deployment to report on yet", "run `i2v-setup install` first")
    place = {"last": 0, "previous": 1}.get(which)
    if place is not None:
        found = newest_first[place : place + 1]
    else:
        found = [it for it in newest_first if it.id == which] or [it for it in newest_first if it.id.startswith(which)]
    if len(found) == 1:
        return found[0]
    known = "`i2v-setup report --list` shows those that are kept"
    if found:
        raise UsageProblem(f"{len(found)} deployments begin with {which!r}", f"name more of the id; {known}")
    raise UsageProblem(f"there is no {which} deployment" if place else f"there is no deployment {which!r}", known)


def _paths(home: Home) -> list[Path]:
    return sorted(home.deployments.glob("*.json"), reverse=True)
