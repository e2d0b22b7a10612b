"""A lock as data: requirement lines with versions and sha256, and no addresses.

Reads what `uv pip compile --generate-hashes` and `pip-compile` write. Knows nothing of where the files are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mirrors.digest import sha256_of
from mirrors.errors import MirrorError

_NAMED = re.compile(r"^# (\S+\.whl) sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Pin:
    """One locked package: exactly this version, and only files with one of these sha256.

    Attributes:
        name: normalized.
        version: its one version.
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
    pins, text = [], path.read_text(encoding="utf-8")
    named = _NAMED.findall(text)
    for number, line in _logical_lines(text):
        words = [word for word in line.split() if not word.startswith("--hash=")]
        hashes = [word.removeprefix("--hash=sha256:") for word in line.split() if word.startswith("--hash=sha256:")]
        try:
            requirement = Requirement(" ".join(words))
        except InvalidRequirement as error:
            raise _no_pin(path, number, str(error)) from error
        versions = [spec.version for spec in requirement.specifier if spec.operator == "=="]
        if not versions or not hashes:
            raise _no_pin(path, number, f"{requirement.name} has no version or no hash")
        if requirement.marker is None or requirement.marker.evaluate(dict(environment) if environment else None):
            names = tuple((name, sha256) for name, sha256 in named if sha256 in hashes)
            pins.append(Pin(canonicalize_name(requirement.name), versions[0], frozenset(hashes), names))
    return tuple(pins)


def local_wheels(pins: Iterable[Pin], directories: Iterable[Path], python: str) -> dict[Pin, Path]:
    """Which pins lie as wheels in local directories: name, version, sha256 right, and made for that Python ("3.11")."""
    wanted = {(pin.name, pin.version): pin for pin in pins}
    found: dict[Pin, Path] = {}
    for directory in directories:
        for wheel in sorted(directory.glob("*.whl")):
            try:
                name, version, _, tags = parse_wheel_filename(wheel.name)
            except InvalidWheelFilename:
                continue
            pin = wanted.get((name, str(version)))
            if pin is not None and pin not in found and _fits(tags, python) and sha256_of(wheel) in pin.sha256s:
                found[pin] = wheel
    return found


def _fits(tags: Iterable[Tag], python: str) -> bool:
    """Whether one of a wheel's tags is for that Python: its own, any Python 3, or the stable ABI of an older one."""
    minor = int(python.partition(".")[2])
    stable = {f"cp3{older}" for older in range(2, minor + 1)}
    return any(
        tag.interpreter in {f"cp3{minor}", f"py3{minor}", "py3"} or (tag.abi == "abi3" and tag.interpreter in stable)
        for tag in tags
    )


def _no_pin(path: Path, line: int, reason: str) -> MirrorError:
    return MirrorError(
        f"{path.name}, line {line}: {reason}", "a lock has lines of the form name==version --hash=sha256:…"
    )


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split(" #")[0].strip()
        if not stripped or stripped.startswith("#"):
            continue
        parts.append(stripped.removesuffix("\\").strip())
        if not stripped.endswith("\\"):
            yield number, " ".join(parts)
            parts = []
