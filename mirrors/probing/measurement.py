"""What is asked of mirrors, and what was found: the wanted file, and one measurement a mirror. Data; asks nobody."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mirrors.catalogue import Mirror
from mirrors.index import Listed

Verdict = Literal["good", "unusable"]


class Unusable(Exception):
    """Why a mirror is out, as the rest of a sentence that begins with its name."""


@dataclass(frozen=True)
class Wanted:
    """A pinned file that the install will need.

    Attributes:
        project: its project's name (of a model's file: its repository).
        filename: its name; None where the lock names only a version: then any file of it that fits.
        sha256: the hash that the lock has for it, or all that the lock allows.
        size: in bytes, where known.
        version: of the project, where there is no filename.
        tags: what the environment takes, best first, where there is no filename; empty: what this interpreter takes.
        address: where a mirror has the file, for mirrors without an index, such as hubs; None: their index says it.
    """

    project: str
    filename: str | None
    sha256: str | frozenset[str]
    size: int | None = None
    version: str | None = None
    tags: tuple[Tag, ...] = field(default=(), repr=False)
    address: Callable[[Mirror], str] | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """For people: "torch 2.13.0"."""
        version = self.version
        if version is None and self.filename is not None:
            version = _version(self.filename)
        return f"{self.project} {version}" if version else self.filename or self.project

    def allows(self, sha256: str | None) -> bool:
        """Whether the lock has this hash."""
        return sha256 in ({self.sha256} if isinstance(self.sha256, str) else self.sha256)

    def is_named(self, filename: str) -> bool:
        """Whether a file of this name can be it."""
        if self.filename is not None:
            return filename == self.filename
        try:
            project, version, _, _ = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            return False
        return project == canonicalize_name(self.project) and str(version) == self.version

    def pick(self, files: Sequence[Listed]) -> Listed:
        """The one of an index's files to measure: the lock allows it, and it fits best.

        Raises:
            Unusable: there is none.
        """
        candidates = [file for file in files if self.is_named(file.filename)]
        if not candidates:
            raise Unusable(f"lacks {self.label}")
        allowed = [file for file in candidates if self.allows(file.sha256)]
        unlisted = [file for file in candidates if file.sha256 is None]
        if not allowed and not unlisted:
            raise Unusable(f"lists another sha256 for {self.label} than the lock has")
        order = _order(self.tags)
        return min(allowed or unlisted, key=lambda file: (_place(file.filename, order), file.filename))


@dataclass(frozen=True)
class Measurement:
    """What was found of a mirror.

    Attributes:
        mirror: which one.
        latency: seconds from a question to the first byte of its answer.
        rate: bytes/s of the wanted file over `connections` connections at once.
        verdict: whether the install can use it.
        reason: why, as the rest of a sentence that begins with the mirror's name.
        requests: how many were sent, redirects included.
        probe_bytes: bytes of the wanted file that were read.
        file: the wanted file as the mirror lists it; its URL may carry credentials.
        connections: how many there were when `rate` was taken.
        single_rate: bytes/s of one connection's first read.
        kept: how many of the bytes that were read are in the store now and were not before.
        at: when the rate was measured, in seconds since 1970.
    """

    mirror: Mirror
    latency: float | None
    rate: float | None
    verdict: Verdict
    reason: str
    requests: int
    probe_bytes: int
    file: Listed | None = None
    connections: int = 1
    single_rate: float | None = None
    kept: int = 0
    at: float | None = field(default=None, compare=False)

    @property
    def url(self) -> str | None:
        """Where the mirror has the wanted file; it may carry credentials."""
        return self.file.url if self.file else None


def _version(filename: str) -> str | None:
    try:
        return str(parse_wheel_filename(filename)[1])
    except InvalidWheelFilename:
        return None


def _place(filename: str, order: Mapping[Tag, int]) -> int:
    """How well a file fits: the place of its best tag, or the last."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return len(order)
    return min((order[tag] for tag in tags if tag in order), default=len(order))


@functools.lru_cache(maxsize=8)
def _order(tags: tuple[Tag, ...]) -> dict[Tag, int]:
    return {tag: place for place, tag in enumerate(tags or tuple(sys_tags()))}
