"""What earlier runs have learnt of locked files, which never change: name, size, and where below an index it lies."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag

from mirrors.index import Listed

# Below this path PyPI and its mirrors keep a file: two, two and sixty digits of its BLAKE2 hash.
_TAIL = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+")


def tail_of(url: str) -> str | None:
    """What a file's URL has in common on PyPI and all of its mirrors; None where it is laid out otherwise."""
    tail = "/".join(urlsplit(url).path.split("/")[-4:])
    return tail if _TAIL.fullmatch(tail) and unquote(tail) == tail else None


class Known:
    """The files that were taken for environments, in one JSON file. One that cannot be read counts as empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, tags: Sequence[Tag]) -> dict[str, Listed]:
        """By sha256, what was taken for an environment with these tags; `url` is the path below an index, or empty."""
        try:
            rows = self._read()[str(tags[0])]
            return {sha256: _listed(sha256, *row) for sha256, row in rows.items()}
        except (TypeError, ValueError, KeyError, AttributeError):
            return {}

    def keep(self, tags: Sequence[Tag], files: Iterable[Listed]) -> None:
        """Remember these as well; of a `url` only the path below an index. Nothing is lost where that fails."""
        everything, recalled = self._read(), self.recall(tags)
        fresh = {file.sha256: file for file in files if file.sha256 and file.sha256 not in recalled}
        if not fresh:
            return
        every = {**recalled, **fresh}.items()
        rows = {sha256: [file.filename, tail_of(file.url) or "", file.size] for sha256, file in every}
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({**everything, str(tags[0]): rows}), encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _listed(sha256: str, filename: str, tail: str, size: int | None) -> Listed:
    if (
        not isinstance(filename, str)
        or (size is not None and not isinstance(size, int))
        or tail != (tail_of(tail) or "")
    ):
        raise ValueError("not a file as `Known.keep` writes it")
    return Listed(filename, tail, sha256, size)
