"""What earlier runs have learnt of layers, so that files that have not changed since are not read again.

A layer is named by what goes into it, and is known as long as its files have the stamps that they had when they were
read. The digests lie in one JSON file; one that cannot be read counts as empty, and one that cannot be written costs
time only. Two processes may use it at once: each replaces it whole.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from images.blobs import Stamp

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class KnownLayers:
    """The digests of layers, in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, name: str, stamps: Sequence[Stamp]) -> str | None:
        """The digest of the layer of that name, if its files had these stamps when it was worked out."""
        row = self._read().get(name)
        if not isinstance(row, list) or row[1:] != _row(stamps):
            return None
        digest = row[0]
        return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else None

    def keep(self, name: str, stamps: Sequence[Stamp], digest: str) -> None:
        """Remember it, beside what others have learnt meanwhile."""
        text = json.dumps({**self._read(), name: [digest, *_row(stamps)]}, indent=0)
        temporary = ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            opened, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
            with os.fdopen(opened, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(self._path)
        except OSError:
            with suppress(OSError):
                Path(temporary).unlink()

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


def _row(stamps: Sequence[Stamp]) -> list[list[int]]:
    return [[stamp.size, stamp.inode, stamp.changed] for stamp in stamps]
