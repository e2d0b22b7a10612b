"""Exactly which conda packages: a file and its sha256 each, and the lists that pin them.

Our own list is conda's explicit one: an address a line, the file's sha256 behind it, dependencies first. Its addresses
are those under which the packages were published, never a mirror's. What others write is read too: explicit lists with
sha256, and conda-lock.yml. Knows nothing of who solved it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bootstrap.errors import UsageProblem
from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.fetch import Artifact
from mirrors.urls import shown

_FILE = re.compile(r"(?P<name>[A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*)-(?P<version>[A-Za-z0-9_.+!]+)-(?P<build>[\w.+]+)")
_SUFFIXES = (".conda", ".tar.bz2")
_SUBDIR = re.compile(r"noarch|(?:linux|osx|win)-[a-z0-9_]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXPLICIT = "@EXPLICIT"
_SIZE = "# bytes: "  # before the address whose file it is of; a comment to everybody else
_HINT = "list them with `conda list --explicit --sha256`, or name an environment.yml"


@dataclass(frozen=True)
class CondaPackage:
    """A package file.

    Attributes:
        channel: the channel's name, or the address of one that has no name.
        subdir: for which machines ("linux-64", "noarch").
        filename: NAME-VERSION-BUILD.conda, or .tar.bz2.
        sha256: of the file.
        size: in bytes, where known.
    """

    channel: str
    subdir: str
    filename: str
    sha256: str
    size: int | None = None

    def __post_init__(self) -> None:
        if not is_package(self.subdir, self.filename) or not is_sha256(self.sha256):
            raise UsageProblem(f"{self.subdir}/{self.filename} with sha256 {self.sha256[:64]!r} is no conda package")

    @property
    def key(self) -> str:
        """What it is called everywhere."""
        return f"{self.channel}/{self.subdir}/{self.filename}"

    @property
    def name(self) -> str:
        """Of the package."""
        return self._part("name")

    @property
    def version(self) -> str:
        """Of the package."""
        return self._part("version")

    @property
    def build(self) -> str:
        """The build string, such as "cpu_generic_py311_0"."""
        return self._part("build")

    @property
    def artifact(self) -> Artifact:
        """For the fetch."""
        return Artifact(self.filename, self.size, self.sha256)

    def _part(self, part: str) -> str:
        match = _parts(self.filename)
        assert match is not None
        return match[part]


def is_package(subdir: str, filename: str) -> bool:
    """Whether a file may be called so: what an index says is not believed."""
    return bool(_SUBDIR.fullmatch(subdir)) and _parts(filename) is not None


def is_sha256(text: str) -> bool:
    """Whether that can be a sha256: it goes into lists, a line each."""
    return bool(_SHA256.fullmatch(text))


def write(packages: Iterable[CondaPackage], title: str) -> str:
    """The list as text; `title` says what it is, in one line."""
    lines = [f"# {title}", _EXPLICIT]
    for package in packages:
        lines += [f"{_SIZE}{package.size}"] if package.size is not None else []
        lines.append(f"{_published(package.channel)}/{package.subdir}/{package.filename}#sha256:{package.sha256}")
    return "\n".join(lines) + "\n"


def read(path: Path, subdir: str) -> tuple[CondaPackage, ...]:
    """The packages of a list that pins them, for machines of that kind.

    Raises:
        UsageProblem: it cannot be read, or does not pin every file by its sha256.
    """
    found = tuple(_of_conda_lock(text_of(path), path, subdir)) if _is_yaml(path) else of_explicit(path)
    if not found:
        raise UsageProblem(f"{path} has no conda package for {subdir}", _HINT)
    wrong = next((package for package in found if package.subdir not in (subdir, "noarch")), None)
    if wrong is not None:
        raise UsageProblem(f"{path} has {wrong.filename} for {wrong.subdir}, and this machine is {subdir}", _HINT)
    return found


def is_list(path: Path) -> bool:
    """Whether a file pins packages, rather than saying what is wanted.

    Raises:
        UsageProblem: it cannot be read.
    """
    text = text_of(path)
    return bool(re.search(r"^package:", text, re.MULTILINE)) if _is_yaml(path) else True


def text_of(path: Path) -> str:
    """What a file of the user's says.

    Raises:
        UsageProblem: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageProblem(f"{path} cannot be read: {reason}", "name a file that exists") from error


def at(url: str, sha256: str, size: int | None = None) -> CondaPackage:
    """The package at an address: by the name of its channel, where that is published or mirrored under one.

    Raises:
        UsageProblem: the address is not a conda package's.
    """
    base, _, filename = url.rpartition("/")
    channel, _, subdir = base.rpartition("/")
    for mirror in catalogue.mirrors("conda"):
        if channel.startswith(f"{catalogue.channel_base(mirror)}/"):
            channel = channel.removeprefix(f"{catalogue.channel_base(mirror)}/")
    return CondaPackage(channel, subdir, filename, sha256, size)


def address(mirror: Mirror, channel: str) -> str:
    """Where a mirror has a channel; one that is an address itself lies there and nowhere else."""
    return channel if "://" in channel else f"{catalogue.channel_base(mirror)}/{channel}"


def _published(channel: str) -> str:
    return address(catalogue.find("upstream", "conda"), channel)


def _is_yaml(path: Path) -> bool:
    return path.suffix in (".yml", ".yaml")


def _parts(filename: str) -> re.Match[str] | None:
    suffix = next((suffix for suffix in _SUFFIXES if filename.endswith(suffix)), None)
    return _FILE.fullmatch(filename.removesuffix(suffix)) if suffix else None


def of_explicit(path: Path) -> tuple[CondaPackage, ...]:
    """The packages of an explicit list, for whatever machines.

    Raises:
        UsageProblem: it cannot be read, or does not pin every file by its sha256.
    """
    return tuple(_of_explicit(text_of(path), path))


def _of_explicit(text: str, path: Path) -> Iterator[CondaPackage]:
    if _EXPLICIT not in (line.strip() for line in text.splitlines()):
        raise UsageProblem(f"{path} is neither an environment.yml nor an explicit list: it has no {_EXPLICIT}", _HINT)
    size = None
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith(_SIZE) and line.removeprefix(_SIZE).isdigit():
            size = int(line.removeprefix(_SIZE))
        if not line or line.startswith(("#", "@")):
            continue
        url, _, digest = line.partition("#")
        sha256 = digest.removeprefix("sha256:")
        if not is_sha256(sha256):
            raise UsageProblem(f"{path}, line {number}: {shown(url)} has no sha256 behind it", _HINT)
        yield at(url, sha256, size)
        size = None


def _of_conda_lock(text: str, path: Path, subdir: str) -> Iterator[CondaPackage]:
    try:
        rows: list[Mapping[str, Any]] = yaml.safe_load(text)["package"]
        for row in rows:
            if row["platform"] != subdir:
                continue
            if row["manager"] != "conda":
                raise UsageProblem(
                    f"{path}: {row['name']} is a package of pip, and only those of conda can be installed this way",
                    "name it as a conda package, or use --backend uv with a requirements file",
                )
            yield at(row["url"], row["hash"]["sha256"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageProblem(f"{path} is not a conda-lock.yml with sha256: {error}", _HINT) from error
