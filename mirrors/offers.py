"""What one index offers of a pin: the files that it lists, which of them the lock allows, and which fits best.

A page is only believed where a file lies, which the sha256 decides in the end; what the file is called says the lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from packaging.tags import Tag
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from mirrors import index
from mirrors.catalogue import Mirror
from mirrors.http import HttpSettings
from mirrors.index import Listed
from mirrors.lock import Pin
from mirrors.tags import place

_PAGE_SECONDS = 10.0


def listing(mirror: Mirror, pin: Pin, http: HttpSettings) -> list[Listed]:
    """What an index lists of a pin."""
    page = index.get_page(mirror, pin.name, http, _PAGE_SECONDS)
    listed = index.files(page, pin.name, lambda filename: _is_of(filename, pin) or _is_source_of(filename, pin))
    known = dict(pin.names)
    return [replace(file, sha256=file.sha256 or known.get(file.filename)) for file in listed]


def best(files: Sequence[Listed], pin: Pin, order: Mapping[Tag, int]) -> Listed | None:
    """Of the files that the lock allows, the one that fits best. Whose hash that is, the lock says, not the index."""
    names = dict(pin.names)
    allowed = [file for file in files if file.sha256 in pin.sha256s]
    named = [file for file in allowed if not names or names.get(file.filename) == file.sha256]
    ranked = [(fit, file) for file in named if (fit := place(file.filename, order)) is not None]
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None


def lack(pin: Pin, files: Sequence[Listed]) -> str:
    """Why none of a pin's files was taken, as the rest of a sentence about the index."""
    wheels = [file for file in files if file.filename.endswith(".whl")]
    if files and not wheels:
        return "has it as a source distribution only, which is not built here"
    if any(file.sha256 in pin.sha256s for file in wheels):
        return "has no wheel of it for this Python and machine"
    return "lacks it: what it has is not what the lock allows" if wheels else "lacks it"


def _is_source_of(filename: str, pin: Pin) -> bool:
    try:
        project, version = parse_sdist_filename(filename)
    except InvalidSdistFilename:
        return False
    return (project, version) == (pin.name, Version(pin.version))


def _is_of(filename: str, pin: Pin) -> bool:
    try:
        project, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    # The name comes from an index, and some day it is the name of a file.
    return (project, version) == (pin.name, Version(pin.version)) and not set("/\\") & set(filename)
