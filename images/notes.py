"""What earlier runs have learnt, by name, in one JSON file.

A file that cannot be read counts as empty, and one that cannot be written costs time only. Two processes may use it at
once: each replaces it whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

_MOST = 2000  # rows; the oldest go first


class Notes:
    """The notes in the file `path`. Whoever reads one sees for himself that it has the right form."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, name: str) -> Any:
        """What was noted under that name; None if nothing was."""
        return self._read().get(name)

    def keep(self, name: str, value: Any) -> None:
        """Note it, beside what others have noted meanwhile."""
        rows = {**self._read(), name: value}
        text = json.dumps(dict(islice(rows.items(), max(0, len(rows) - _MOST), None)), indent=0)
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
