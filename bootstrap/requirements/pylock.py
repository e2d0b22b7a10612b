"""A pylock.toml (PEP 751) as the entries of a lock: its wheels, by name and sha256. Addresses in it are not used."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import tomlkit
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from tomlkit.exceptions import ParseError

from bootstrap.errors import SetupError
from bootstrap.locking.text import Entry
from bootstrap.requirements.lines import can_be_evaluated

_SHA256 = re.compile("[0-9a-fA-F]{64}")
_FILENAME = re.compile(r"[A-Za-z0-9_.+!-]{1,200}")
_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_ELSEWHERE = ("vcs", "directory", "archive")
_HINT = "`uv export --format pylock.toml` and `pip lock` write locks that can be used"


def entries(text: str, name: str, python: str) -> list[Entry]:
    """The packages, for that version of Python.

    Raises:
        SetupError: the file is none, or has a package that no index has as a wheel with a sha256.
    """
    try:
        data = tomlkit.parse(text.removeprefix("\ufeff")).unwrap()
    except ParseError as error:
        raise SetupError(f"{name}, line {error.line}: it is no TOML", "mend the line") from error
    except RecursionError as error:
        raise SetupError(f"{name}: it is no lock, so deep is it", _HINT) from error
    version = str(data.get("lock-version", ""))
    if not version.startswith("1."):
        raise SetupError(f"{name}: lock-version is {version or 'missing'}, and only 1 is known", _HINT)
    _require_python(data.get("requires-python"), python, name)
    packages = data.get("packages")
    if not isinstance(packages, list) or not packages:
        raise SetupError(f"{name}: it locks no package", _HINT)
    return [_entry(package, place, name) for place, package in enumerate(packages, 1)]


def _require_python(wanted: object, python: str, name: str) -> None:
    try:
        if isinstance(wanted, str) and not SpecifierSet(wanted).contains(f"{python}.99"):
            raise SetupError(f"{name}: it is for Python {wanted}, not {python}", "choose another with --python")
    except InvalidSpecifier as error:
        raise SetupError(f"{name}: requires-python is {wanted!r}", _HINT) from error


def _entry(package: Any, place: int, name: str) -> Entry:
    what = f"{name}, package {place}"
    if not isinstance(package, dict) or not _PROJECT.fullmatch(str(package.get("name"))):
        raise SetupError(f"{what}: it has no name", _HINT)
    what += f" ({package['name']})"
    elsewhere = next((key for key in _ELSEWHERE if key in package), None)
    if elsewhere is not None:
        raise SetupError(f"{what}: it is a {elsewhere}, not a package of an index", "lock a wheel of it")
    wheels = package.get("wheels")
    if not wheels or not isinstance(wheels, list):
        only = "only a source distribution, which is not built here" if "sdist" in package else "no file"
        raise SetupError(f"{what}: it has {only}", "lock a version that has wheels")
    marker = package.get("marker", "")
    if "extras" in str(marker) or "dependency_groups" in str(marker):
        raise SetupError(f"{what}: its marker asks for extras or groups", "export the lock for one choice of them")
    try:
        version = Version(str(package["version"]))
        requirement = Requirement(f"{package['name']}=={version}" + (f" ; {marker}" if marker else ""))
    except (KeyError, InvalidVersion, InvalidRequirement, RecursionError) as error:
        raise SetupError(f"{what}: it has no version, or a marker that cannot be read", _HINT) from error
    if requirement.marker and not can_be_evaluated(requirement.marker):
        raise SetupError(f"{what}: its marker makes no sense", _HINT)
    return Entry(requirement, dict(_wheel(wheel, requirement, version, what) for wheel in wheels))


def _wheel(wheel: Any, requirement: Requirement, version: Version, what: str) -> tuple[str, str]:
    """A wheel's name and sha256. Both go into a lock, so they have to be just that."""
    wheel = wheel if isinstance(wheel, dict) else {}
    hashes = wheel.get("hashes")
    sha256 = str(hashes.get("sha256")) if isinstance(hashes, dict) else ""
    address = str(wheel.get("name") or wheel.get("url") or wheel.get("path") or "")
    filename = unquote(re.split(r"[?#]", address)[0].rpartition("/")[2]) if "/" in address else address
    try:
        project, its_version, _, _ = parse_wheel_filename(filename if _FILENAME.fullmatch(filename) else "")
    except InvalidWheelFilename as error:
        raise SetupError(f"{what}: {filename[:100]!r} is no wheel's name", _HINT) from error
    if (project, its_version.public) != (canonicalize_name(requirement.name), version.public):
        raise SetupError(f"{what}: {filename} is a wheel of something else", _HINT)
    if not _SHA256.fullmatch(sha256):
        raise SetupError(f"{what}: {filename} has no sha256", _HINT)
    return filename, sha256.lower()
