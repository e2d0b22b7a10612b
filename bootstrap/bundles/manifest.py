"""A bundle's manifest, and what can be said of a bundle by looking at it. Bytes are read only where that is said."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from bootstrap.errors import SetupError, UsageProblem
from bootstrap.recipe import Lock
from mirrors.digest import sha256_of

NAME = "manifest.json"
UNFINISHED = "manifest.json.unfinished"
FORMAT = 1
_SHA256 = re.compile("[0-9a-f]{64}")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_AGAIN = "carry it over again, or write it again: i2v-setup bundle DIR"


@dataclass(frozen=True)
class Entry:
    """A file of a bundle: where it is below its directory, bytes, and sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A whole bundle.

    Attributes:
        directory: where it is; not in the manifest.
        tool: our version that wrote it.
        made: when, in UTC, as ISO 8601 has it.
        system: that it is for, as `platform.system()` has it.
        arch: as `platform.machine()` has it.
        build: of PyTorch.
        python: the version that the packages are for.
        lock_path: the lock's, below the directory.
        lock_name: the lock's name for people.
        model: its id.
        files: all of them, this manifest excepted.
    """

    directory: Path
    tool: str
    made: str
    system: str
    arch: str
    build: str
    python: str
    lock_path: str
    lock_name: str
    model: str
    files: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @property
    def brings(self) -> frozenset[str]:
        """The sha256 of all files."""
        return frozenset(entry.sha256 for entry in self.files)

    def below(self, folder: str) -> Iterator[Entry]:
        """The files in one of its folders."""
        return (entry for entry in self.files if entry.path.startswith(f"{folder}/"))

    def path(self, entry: Entry) -> Path:
        """Where a file is."""
        return self.directory / entry.path

    def lock(self) -> Lock:
        """The lock that the packages were chosen by.

        Raises:
            SetupError: it is not what was written.
        """
        entry = next(entry for entry in self.files if entry.path == self.lock_path)
        require_bytes(self, entry)
        return Lock(self.lock_name, self.path(entry), entry.sha256)

    def text(self) -> str:
        """The manifest."""
        told = asdict(self)
        del told["directory"]
        return json.dumps({"format": FORMAT, **told}, indent=1, ensure_ascii=False) + "\n"


def read(directory: Path) -> Bundle:
    """The bundle in a directory; its files are there in their sizes.

    Raises:
        SetupError: there is none, it is not whole, or it says something that no bundle says.
        UsageProblem: it is for another kind of machine.
    """
    try:
        text = (directory / NAME).read_text(encoding="utf-8")
    except OSError as error:
        if (directory / UNFINISHED).exists():
            raise SetupError(f"the bundle in {directory} was not written to its end", _AGAIN) from error
        raise SetupError(
            f"there is no bundle in {directory}", "name a directory that `i2v-setup bundle` wrote"
        ) from error
    try:
        bundle = _bundle(directory, json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SetupError(f"{directory / NAME} is damaged: {error}", _AGAIN) from error
    here = (platform.system(), platform.machine())
    if (bundle.system, bundle.arch) != here:
        raise UsageProblem(
            f"the bundle is for {bundle.system} on {bundle.arch}, this is {here[0]} on {here[1]}",
            "write one on a machine like this one",
        )
    for entry in bundle.files:
        _require_size(bundle, entry)
    return bundle


def require_bytes(bundle: Bundle, entry: Entry) -> None:
    """Read a file of a bundle again.

    Raises:
        SetupError: it is gone, or is not what was written.
    """
    _require_size(bundle, entry)
    if sha256_of(bundle.path(entry)) != entry.sha256:
        raise tampered(bundle, entry)


def tampered(bundle: Bundle, entry: Entry) -> SetupError:
    """What to say of a file with other bytes than were written."""
    return SetupError(f"{entry.path} of the bundle in {bundle.directory} has other bytes than were written", _AGAIN)


def digest(bundle: Bundle) -> str:
    """The sha256 of the manifest, by which two people can tell that they speak of the same bundle."""
    return hashlib.sha256(bundle.text().encode()).hexdigest()


def _require_size(bundle: Bundle, entry: Entry) -> None:
    path = bundle.path(entry)
    if not path.is_file():
        raise SetupError(f"{entry.path} is missing in the bundle in {bundle.directory}", _AGAIN)
    size = path.stat().st_size
    if size != entry.size:
        raise SetupError(f"{entry.path} of the bundle in {bundle.directory} has {size} bytes, not {entry.size}", _AGAIN)


def _bundle(directory: Path, data: Any) -> Bundle:
    if data["format"] != FORMAT:
        raise ValueError(f"it has the format {data['format']}, and this version reads {FORMAT}")
    names = {field.name for field in fields(Bundle)} - {"directory", "files"}
    told = {name: data[name] for name in names}
    if not all(isinstance(value, str) for value in told.values()):
        raise TypeError("a name is no text")
    if not _PYTHON.fullmatch(told["python"]):
        raise ValueError(f"{told['python']!r} is no version of Python")
    bundle = Bundle(directory, **told, files=tuple(_entry(row) for row in data["files"]))
    if bundle.lock_path not in {entry.path for entry in bundle.files}:
        raise ValueError("its lock is not among its files")
    return bundle


def _entry(row: Any) -> Entry:
    entry = Entry(row["path"], row["size"], row["sha256"])
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.path or not path.parts:
        raise ValueError(f"{entry.path!r} is no path below it")
    if any(unicodedata.category(letter) == "Cc" for letter in entry.path):
        raise ValueError(f"{entry.path!r} is no name of a file")
    if path.parts[0] == "wheels":
        _require_wheel(entry.path)
    if type(entry.size) is not int or entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
        raise ValueError(f"{entry.path} has no size or no sha256")
    return entry


def _require_wheel(path: str) -> None:
    """What lies in the folder of the packages is a wheel by its name, and in no folder below it."""
    try:
        parse_wheel_filename(path.removeprefix("wheels/"))
    except InvalidWheelFilename as error:
        raise ValueError(f"{path!r} has no name that a wheel has") from error
