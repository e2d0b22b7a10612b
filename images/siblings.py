"""Remembers which repositories of a registry images went to: what lies in one is mounted into another, and not sent.

Engines remember a repository for each blob. The few that were pushed to last are enough here: they have the weights,
and what others have pushed there meanwhile is found as well.
"""

from __future__ import annotations

from pathlib import Path

from images.notes import Notes
from images.references import Reference

_MOST = 4  # repositories of a registry: each is asked for every blob that is missing


class Siblings:
    """The repositories, in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._notes = Notes(path)

    def of(self, reference: Reference, first: Reference | None = None) -> tuple[str, ...]:
        """Other repositories on that registry: `first`, if it is one of them, and those pushed to, latest first."""
        named = [first.repository] if first and first.host == reference.host else []
        found = dict.fromkeys((*named, *self._repositories(reference.host)))
        return tuple(repository for repository in found if repository != reference.repository)

    def keep(self, reference: Reference) -> None:
        """Remember that an image went there."""
        latest = dict.fromkeys((reference.repository, *self._repositories(reference.host)))
        self._notes.keep(reference.host, list(latest)[:_MOST])

    def _repositories(self, host: str) -> list[str]:
        row = self._notes.recall(host)
        return [name for name in row if isinstance(name, str)] if isinstance(row, list) else []
