"""The digests of weight layers, so that files that have not changed since are not read again.

A layer is named by what goes into it, and is known as long as its files have the stamps that they had when they were
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from images import documents
from images.blobs import Stamp
from images.notes import Notes


class KnownLayers:
    """The digests of layers, in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._notes = Notes(path)

    def recall(self, name: str, stamps: Sequence[Stamp]) -> str | None:
        """The digest of the layer of that name, if its files had these stamps when it was worked out."""
        row = self._notes.recall(name)
        if not isinstance(row, list) or row[1:] != _row(stamps):
            return None
        try:
            return documents.digest(row[0])
        except (TypeError, ValueError):
            return None

    def keep(self, name: str, stamps: Sequence[Stamp], digest: str) -> None:
        """Remember it."""
        self._notes.keep(name, [digest, *_row(stamps)])


def _row(stamps: Sequence[Stamp]) -> list[list[int]]:
    return [[stamp.size, stamp.inode, stamp.changed] for stamp in stamps]
