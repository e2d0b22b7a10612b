"""The user's lock of model files: what was learnt of them from where they are published, checked ever after.

One JSON file in the user's configuration, for people to read and to copy to a machine that cannot reach the hub:

    {"files": {"ORG/NAME@COMMIT": {"PATH": {"size": 1059962, "sha256": "…", "from": "https://…", "on": "2026-11-23"},
                                   "PATH": null}}}          null: the repository has no such file

Only adds: what is there is never replaced. Knows nothing of how it is learnt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bootstrap import atomic
from bootstrap.errors import SetupError
from bootstrap.state import writable
from runtime.models import Origin

_ABOUT = "What i2v-setup learnt of model files from where they are published. They are checked against it ever after."
_SHA256 = re.compile("[0-9a-f]{64}")


class Changed(SetupError):
    """A published file is another one than it was."""


@dataclass(frozen=True)
class Learnt:
    """What was learnt of one file: size in bytes, sha256, from whom, and on which day."""

    size: int
    sha256: str
    source: str
    day: str


Entries = Mapping[Origin, Learnt | None]  # None: the repository has no such file


def read(path: Path) -> dict[Origin, Learnt | None]:
    """All that was learnt; nothing, if there is no such file.

    Raises:
        SetupError: the file cannot be read, or says something else.
    """
    try:
        text = atomic.bytes_of(path)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", "mend it, or move it away") from error
    if text is None:
        return {}
    try:
        files = json.loads(text)["files"]
        return {
            _origin(commit, name): _entry(entry) for commit, names in files.items() for name, entry in names.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SetupError(f"{path} is not as i2v-setup wrote it", "mend it, or move it away to learn anew") from error


def add(path: Path, entries: Entries) -> None:
    """Write what was learnt now beside what is there.

    Raises:
        Changed: something else was learnt of one of these files before. Nothing is written.
        SetupError: the file cannot be read or written.
    """
    with FileLock(writable(path.parent) / f".{path.name}.lock"):
        known = read(path)
        for origin, entry in entries.items():
            require_same(path, origin, known.get(origin, entry), entry)
        text = json.dumps({"about": _ABOUT, "files": _rows({**entries, **known})}, indent=2) + "\n"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            atomic.replace(path, text.encode(), temporary, private=True)
        except OSError as error:
            raise SetupError(f"{path} cannot be written: {error.strerror}", "make room, or make it writable") from error


def require_same(path: Path, origin: Origin, known: Learnt | None, now: Learnt | None) -> None:
    """Nobody may publish other bytes under the same name.

    Raises:
        Changed: somebody did.
    """
    if _bytes(known) != _bytes(now):
        then = f"learnt on {known.day} from {known.source}" if known else "it was not there before"
        raise Changed(
            f"{origin.path} of {origin.repo} is published with other bytes now ({_told(now)}) than before "
            f"({_told(known)}, {then}), although its commit {origin.revision[:8]} is the same",
            f"find out why before you use it; what was learnt stands in {path}",
        )


def _bytes(entry: Learnt | None) -> tuple[int, str] | None:
    return None if entry is None else (entry.size, entry.sha256)


def _told(entry: Learnt | None) -> str:
    return f"sha256 {entry.sha256[:12]}…, {entry.size} bytes" if entry else "no such file"


def _origin(commit: str, path: str) -> Origin:
    repo, mark, revision = commit.rpartition("@")
    if not (repo and mark and revision):
        raise ValueError(commit)
    return Origin(repo, revision, path)


def _entry(row: Any) -> Learnt | None:
    if row is None:
        return None
    entry = Learnt(row["size"], row["sha256"], str(row["from"]), str(row["on"]))
    if type(entry.size) is not int or entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
        raise ValueError(f"{entry} is not of a file")
    return entry


def _rows(entries: Entries) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for origin, entry in sorted(entries.items(), key=lambda item: (item[0].commit, item[0].path)):
        facts = asdict(entry) if entry else None
        row = facts and {"size": facts["size"], "sha256": facts["sha256"], "from": facts["source"], "on": facts["day"]}
        rows.setdefault(origin.commit, {})[origin.path] = row
    return rows
