"""A lock as data: requirement lines with versions and sha256, and no addresses.

Reads what `uv pip compile --generate-hashes` and `pip-compile` write. Knows nothing of where the files are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mirrors.errors import MirrorError

TO_LEARN = "# to learn: "
"""Begins the line of a package whose hashes the lock lacks: they are learnt at the first use, where it is published."""

_SHA256 = re.compile("[0-9a-f]{64}")
_NAMED = re.compile(r"^# (\S+\.whl) sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Pin:
    """One locked package: exactly this version, and only files with one of these sha256.

    Attributes:
        name: normalized.
        version: its one version, normalized.
        sha256s: of the files that are allowed.
        names: file names and their sha256 as far as the lock says them, for indexes that list names only. In the lock
            they stand in comments: `# demo-1.0-py3-none-any.whl sha256:…`.
    """

    name: str
    version: str
    sha256s: frozenset[str]
    names: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def read(path: Path, environment: Mapping[str, str] | None = None) -> tuple[Pin, ...]:
    """The pins that apply in a marker environment (PEP 508; None: this interpreter's), in the lock's order.

    Raises:
        MirrorError: a line is no pin with hashes.
    """
    where, pins = dict(environment or {}) or None, []
    for number, marker, pin in _pins(_text(path), path.name):
        try:
            applies = marker is None or marker.evaluate(where)
        except (UndefinedComparison, UndefinedEnvironmentName) as error:
            raise _no_pin(path.name, number, str(error)) from error
        if applies:
            pins.append(pin)
    return tuple(pins)


def every_pin(text: str, name: str) -> tuple[Pin, ...]:
    """The pins of a lock's text in its order, wherever they apply: of one package there may be several.

    Raises:
        MirrorError: a line is no pin with hashes; `name` is what it calls the lock.
    """
    return tuple(pin for _, _, pin in _pins(text, name))


def to_learn(path: Path, environment: Mapping[str, str] | None = None) -> tuple[Requirement, ...]:
    """The packages whose hashes the lock lacks, of those that apply in a marker environment."""
    lines = (line for line in _text(path).splitlines() if line.startswith(TO_LEARN))
    requirements = (Requirement(line.removeprefix(TO_LEARN)) for line in lines)
    where = dict(environment) if environment else None
    return tuple(found for found in requirements if found.marker is None or found.marker.evaluate(where))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise MirrorError(f"{path} cannot be read: {reason}", "mend the file, or move it away") from error


def _pins(text: str, name: str) -> Iterator[tuple[int, Marker | None, Pin]]:
    """Each pin, the line where it ends, and where it applies."""
    named: dict[str, list[str]] = {}
    for file, sha256 in _NAMED.findall(text):
        named.setdefault(sha256, []).append(file)
    for number, line in _logical_lines(text):
        words = [word for word in line.split() if not word.startswith("--hash=")]
        hashes = [word.removeprefix("--hash=sha256:") for word in line.split() if word.startswith("--hash=sha256:")]
        try:
            requirement = Requirement(" ".join(words))
            versions = [str(Version(spec.version)) for spec in requirement.specifier if spec.operator == "=="]
        except (InvalidRequirement, InvalidVersion) as error:
            raise _no_pin(name, number, str(error)) from error
        if not versions or not hashes:
            raise _no_pin(name, number, f"{requirement.name} has no version or no hash")
        if not all(map(_SHA256.fullmatch, hashes)):
            raise _no_pin(name, number, f"what {requirement.name} has is no sha256")
        names = tuple((file, sha256) for sha256 in hashes for file in named.get(sha256, ()))
        pin = Pin(canonicalize_name(requirement.name), versions[0], frozenset(hashes), names)
        yield number, requirement.marker, pin


def _no_pin(name: str, line: int, reason: str) -> MirrorError:
    return MirrorError(f"{name}, line {line}: {reason}", "a lock has lines of the form name==version --hash=sha256:…")


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    parts: list[str] = []
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split(" #")[0].strip()
        if not stripped or stripped.startswith("#"):
            continue
        parts.append(stripped.removesuffix("\\").strip())
        if not stripped.endswith("\\"):
            yield number, " ".join(parts)
            parts = []
    if parts:  # it was cut off: what is left may still be a pin, and is not to be left out
        yield number, " ".join(parts)
