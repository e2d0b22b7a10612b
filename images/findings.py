"""What somebody finds who looks whether an image is what it claims: data only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from images.contents import Found

MISSING, UNLISTED = "missing", "not listed"


@dataclass(frozen=True)
class Row:
    """One thing that an image claims, what was found, and whether the two agree."""

    what: str
    claimed: str
    found: str
    holds: bool


def digest_told(file: Found | None) -> str:
    """What was found of a file, as labels name it: by its digest, if it is one and is there."""
    if file is None:
        return MISSING
    return f"sha256:{file.sha256}" if file.sha256 else file.kind


def same(what: str, claimed: str, found: str) -> Row:
    """For two texts that have to be the same."""
    return Row(what, claimed, found, claimed == found)


def each_same(about: str, listed: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Row]:
    """For many such texts, by name: those that differ one by one, or that none does."""
    wrong = [name for name in sorted({*listed, *found}) if listed.get(name) != found.get(name)]
    for name in wrong:
        yield Row(f"{about}: {name}", listed.get(name, UNLISTED), found.get(name, MISSING), False)
    if not wrong:
        yield Row(about, f"{len(listed)} listed", "the same", True)
