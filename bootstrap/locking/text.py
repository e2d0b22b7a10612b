"""The text of a lock: its entries, the names of their wheels in comments, and what stands at its head.

Pure text. Knows nothing of indexes, nor of who resolves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mirrors import lock

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMED = re.compile(r"^# (\S+\.whl) sha256:([0-9a-f]{64})$", re.MULTILINE)
_SOURCE = "# torch's wheels: "


@dataclass(frozen=True)
class Entry:
    """One package of a lock.

    Attributes:
        requirement: name==version, and its marker.
        wheels: the sha256 of each wheel by its file name.
        hashes: the sha256 of files whose names are not known. No hash at all: they are learnt at the first use.
    """

    requirement: Requirement
    wheels: Mapping[str, str] = field(default_factory=dict)
    hashes: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The normalized name."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The one version."""
        return next(iter(self.requirement.specifier)).version

    def __str__(self) -> str:
        """As it stands in a lock: the names of the wheels go in, since some mirrors list names only."""
        marker = f" ; {self.requirement.marker}" if self.requirement.marker else ""
        line = f"{self.name}=={self.version}{marker}"
        allowed = self.hashes.union(self.wheels.values())
        if not allowed:
            return f"{lock.TO_LEARN}{line}\n"
        comments = "".join(f"# {name} sha256:{sha256}\n" for name, sha256 in sorted(self.wheels.items()))
        hashes = (f"    --hash=sha256:{sha256}" for sha256 in sorted(allowed))
        return comments + " \\\n".join([line, *hashes]) + "\n"


def compiled(text: str) -> list[tuple[Requirement, frozenset[str]]]:
    """What `uv pip compile --generate-hashes` wrote: each requirement with the sha256 of all its files."""
    found, words = [], ""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            words += line.removesuffix("\\")
            if not line.endswith("\\"):
                requirement = Requirement(words.partition("--hash=")[0].strip())
                found.append((requirement, frozenset(_HASH.findall(words))))
                words = ""
    return found


def named(text: str) -> dict[str, str]:
    """The sha256 of each wheel that a lock names."""
    return dict(_NAMED.findall(text))


def source_of(text: str) -> str:
    """What a lock says of where torch's hashes are from; empty if nothing."""
    return next((line.removeprefix(_SOURCE) for line in text.splitlines() if line.startswith(_SOURCE)), "")


def rendered(entries: Iterable[Entry], source: str) -> str:
    """The lock. `source` says where torch's hashes are from."""
    ordered = sorted(entries, key=lambda entry: (entry.name, entry.version))
    return f"# Made by `make lock`.\n{_SOURCE}{source}\n" + "".join(map(str, ordered))
