"""The lines of a requirements file that can be a lock: name==version with sha256, extras and markers.

What pip allows beside that cannot be installed as it was locked, so it is refused, with the number of its line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bootstrap.errors import SetupError
from bootstrap.locking.text import Entry
from mirrors.urls import redact

_SHA256 = re.compile(r"sha256:([0-9a-fA-F]{64})")
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")
_HARMLESS = ("--require-hashes", "--prefer-binary", "--only-binary", "--pre", "--use-feature")
_SHOWN = 200  # characters of a line that a message shows
_FORM = (
    "name==version --hash=sha256:… , as `uv pip compile --generate-hashes` and `pip-compile --generate-hashes` write it"
)


class BadRequirements(SetupError):
    """A line that cannot be installed as it is written."""

    def __init__(self, name: str, line: int, reason: str, hint: str = f"write {_FORM}") -> None:
        super().__init__(f"{name}, line {line}: {reason}", hint)


@dataclass(frozen=True)
class Line:
    """One requirement: where it stands, and the sha256 that are allowed."""

    name: str
    number: int
    requirement: Requirement
    hashes: frozenset[str]

    @property
    def text(self) -> str:
        """The requirement as uv takes it, with its hashes."""
        return " ".join([str(self.requirement), *(f"--hash=sha256:{sha256}" for sha256 in sorted(self.hashes))])

    @property
    def version(self) -> str | None:
        """The one version, if there is one."""
        versions = [found.version for found in self.requirement.specifier if found.operator == "=="]
        return versions[0] if len(self.requirement.specifier) == 1 and versions and "*" not in versions[0] else None

    @property
    def is_pinned(self) -> bool:
        """Whether version and hashes are there."""
        return self.version is not None and bool(self.hashes)

    def pinned(self) -> Entry:
        """The entry of a lock. Extras go: what they require is locked too, in lines of its own.

        Raises:
            BadRequirements: version or hashes are missing.
        """
        hint = f"write {_FORM}; or have it resolved once with --no-hashes"
        if self.version is None:
            raise BadRequirements(
                self.name, self.number, f"{_shown(str(self.requirement))} names no single version", hint
            )
        if not self.hashes:
            raise BadRequirements(self.name, self.number, f"{_shown(str(self.requirement))} has no sha256", hint)
        marker = f" ; {self.requirement.marker}" if self.requirement.marker else ""
        return Entry(Requirement(f"{self.requirement.name}=={self.version}{marker}"), hashes=self.hashes)


@dataclass(frozen=True)
class Lines:
    """All requirements of a file, and the options in it that are not heeded."""

    lines: tuple[Line, ...]
    ignored: tuple[str, ...]


def read(text: str, name: str) -> Lines:
    """The lines of a file.

    Raises:
        BadRequirements: something that no index has, or that is not to be had from one.
    """
    lines: list[Line] = []
    ignored: list[str] = []
    for number, line in _logical_lines(text):
        if line.startswith("-"):
            option = re.split(r"[\s=]", line)[0]
            if option in _INDEX_OPTIONS:
                ignored.append(option)
            elif option not in _HARMLESS:
                raise _refused(name, number, option)
        else:
            lines.append(_requirement(line, name, number))
    if not lines:
        raise BadRequirements(name, 1, "there is no requirement in the file")
    return Lines(tuple(lines), tuple(dict.fromkeys(ignored)))


def heeded(resolved: Iterable[Line], users: Iterable[Line]) -> list[Entry]:
    """The entries that were resolved, with the user's hashes where there were any: an index does not overrule those.

    Raises:
        BadRequirements: the index has only other files of a package than those that the user's line allows.
    """
    given: dict[str, Line] = {canonicalize_name(line.requirement.name): line for line in users if line.hashes}
    entries = []
    for entry in (line.pinned() for line in resolved):
        users_line = given.get(entry.name)
        allowed = entry.hashes & users_line.hashes if users_line else entry.hashes
        if users_line and not allowed:
            reason = f"the index has no file of {entry.name} {entry.version} with that sha256"
            hint = "check the hash, or choose another --mirror"
            raise BadRequirements(users_line.name, users_line.number, reason, hint)
        entries.append(replace(entry, hashes=allowed))
    return entries


def _requirement(line: str, name: str, number: int) -> Line:
    before, *options = re.split(r"\s(?=--?[a-z])", line)
    if re.match(r"(\w+\+)?(https?|file|ssh)://|\.{0,2}/|~", before) or before.endswith((".whl", ".tar.gz", ".zip")):
        raise BadRequirements(name, number, f"{_shown(before.split()[0])} is an address, not a package of an index")
    try:
        requirement = Requirement(before.strip())
    except (InvalidRequirement, RecursionError) as error:
        reason = f"{_shown(before.strip())!r} is no requirement ({_shown(_first(error))})"
        raise BadRequirements(name, number, reason) from error
    if requirement.url is not None:
        raise BadRequirements(name, number, f"{requirement.name} has an address; packages are taken from indexes")
    if requirement.marker and not can_be_evaluated(requirement.marker):
        raise BadRequirements(name, number, f"its marker makes no sense: {_shown(str(requirement.marker))}")
    hashes = set()
    for option in options:
        words = _words(option, name, number)
        if words[0] != "--hash" or len(words) != 2:
            raise _refused(name, number, words[0])
        found = _SHA256.fullmatch(words[1])
        if found:
            hashes.add(found[1].lower())
    if options and not hashes:
        raise BadRequirements(name, number, f"{requirement.name} has no sha256, and other hashes are not checked")
    return Line(name, number, requirement, frozenset(hashes))


def _refused(name: str, number: int, option: str) -> BadRequirements:
    if option in ("-r", "--requirement", "-c", "--constraint"):
        what = "put all requirements into one file: `uv pip compile` does it"
        return BadRequirements(name, number, f"{option} names another file, which is not read", what)
    if option in ("-e", "--editable"):
        what = "build a wheel of it, and name its directory under pip's find-links"
        return BadRequirements(name, number, "an editable installation cannot be locked", what)
    return BadRequirements(name, number, f"{_shown(option)} is not supported", "leave the option out")


def can_be_evaluated(marker: Marker) -> bool:
    """Whether a marker says yes or no anywhere: what is compared has to be of one kind."""
    try:
        marker.evaluate()
    except (UndefinedComparison, UndefinedEnvironmentName, RecursionError):
        return False
    return True


def _words(option: str, name: str, number: int) -> list[str]:
    try:
        return shlex.split(option.replace("=", " ", 1))
    except ValueError as error:
        raise BadRequirements(name, number, "a quotation mark has no other one") from error


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _shown(text: str) -> str:
    """As much of what the user wrote as a message bears, without passwords."""
    short = redact(text)
    return short if len(short) <= _SHOWN else f"{short[:_SHOWN]}…"


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines without comments, continued ones joined, each with the number that it begins at."""
    parts: list[str] = []
    begins = 0
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        stripped = re.sub(r"(^|\s)#.*$", "", line).strip()
        begins = begins if parts else number
        if stripped:
            parts.append(stripped.removesuffix("\\").strip())
        if parts and not stripped.endswith("\\"):
            yield begins, " ".join(part for part in parts if part)
            parts = []
    if parts:
        yield begins, " ".join(parts)
