"""The symbolic links of an image's layers, and where paths lead by way of them.

Some engines unpack a layer onto those below it, and then write through the links that are there. Reads no bytes.
"""

from __future__ import annotations

import posixpath

from images.errors import ImageError
from images.untar import Entry

_MOST = 300_000
_MOST_STEPS = 40  # as Linux has it
_LONGEST_PATH = 4096


class Links:
    """The links of all the layers that went by. One that a layer takes away still counts, which is the safe side."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}

    def leads(self, entry: Entry) -> str:
        """Where an entry is when the links above it are followed; it is remembered, if it is one itself.

        Raises:
            ImageError: Paths or links are more than any image needs.
        """
        if len(entry.path) > _LONGEST_PATH:
            raise ImageError(f"a layer has a path of more than {_LONGEST_PATH} characters")
        path = self._followed(entry.path)
        if entry.kind == "symbolic link":
            if len(self._targets) == _MOST or len(entry.target or "") > _LONGEST_PATH:
                raise ImageError("the layers have too many links, or too long ones")
            self._targets[entry.path] = entry.target or ""
        elif not posixpath.basename(entry.path).startswith(".wh."):
            self._targets.pop(entry.path, None)  # something else is there now
        return path

    def _followed(self, path: str) -> str:
        done, left = "", path.split("/")
        for _ in range(_MOST_STEPS):
            while len(left) > 1:
                done, left = posixpath.join(done, left[0]), left[1:]
                if done in self._targets:
                    break
            else:
                return posixpath.join(done, *left)
            # In a container all paths begin at its root, and none leads out of there.
            onto = posixpath.normpath(f"/{self._targets[done]}").lstrip("/")
            done, left = "", [*(onto.split("/") if onto else ()), *left]
        raise ImageError(f"the links above {path[:100]} lead in a circle")
