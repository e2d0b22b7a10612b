"""The Python packages that an image gets from a lock. Knows no Docker, and looks into no wheel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from images.errors import ImageError
from mirrors import lock
from mirrors.digest import sha256_of
from mirrors.errors import MirrorError


@dataclass(frozen=True)
class Package:
    """A package as it is installed: its name and version normalized, and the wheel that it comes from."""

    name: str
    version: str
    sha256: str
    wheel: str


def installed(wheels: Mapping[str, Path], locked: Path) -> Iterator[Package]:
    """Those wheels that a lock names; others, such as the installer's, only help to build the image.

    A wheel is read only if the lock has several of its version and does not say which one it is.

    Args:
        wheels: Where their bytes lie, by their own file names.
        locked: The lock.

    Raises:
        ImageError: A name is no wheel's, or the lock makes no sense.
    """
    try:
        pins = lock.every_pin(locked.read_bytes().decode(errors="replace"), locked.name)
    except MirrorError as error:
        raise ImageError(str(error), error.hint) from error
    for wheel, path in sorted(wheels.items()):
        name, version = _parsed(wheel)
        found = [pin for pin in pins if (pin.name, pin.version) == (name, version)]
        if found:
            known = dict(row for pin in found for row in pin.names)
            hashes = frozenset[str]().union(*(pin.sha256s for pin in found))
            sha256 = known.get(wheel) or (next(iter(hashes)) if len(hashes) == 1 else sha256_of(path))
            yield Package(name, version, sha256, wheel)


def _parsed(wheel: str) -> tuple[str, str]:
    try:
        name, version, _, _ = parse_wheel_filename(wheel)
    except InvalidWheelFilename as error:
        raise ImageError(f"{wheel!r} is no name of a wheel", "choose another mirror") from error
    return name, str(version)
