"""The files that deploy an image elsewhere: one for Docker Compose, one for Kubernetes.

They confine the server as `images.container` does, and say in comments what may be changed. A file that was changed is
never written over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from images import compose_file, kubernetes_file
from images.deployable import Deployable
from images.errors import ImageError

_HEAD = "# Written by `i2v-setup build-image`. sha256 of all that follows:"
_SEEN = re.compile(rf"{re.escape(_HEAD)} ([0-9a-f]{{64}})\n")
NAMES = ("compose.yaml", "kubernetes.yaml")


def check(directory: Path) -> None:
    """See that nothing of somebody's would be lost by `write`.

    Raises:
        ImageError: a file is not as it was written, or cannot be read.
    """
    for path in (directory / name for name in NAMES):
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ImageError(f"{path} cannot be read: {error}", "choose another directory") from error
        head = _SEEN.match(text)
        if head is None or head[1] != _digest(text[head.end() :]):
            raise ImageError(f"{path} was changed, or is somebody else's", "move it away, or choose another directory")


def write(directory: Path, deployable: Deployable) -> tuple[Path, ...]:
    """Write both files; where they are.

    Raises:
        ImageError: one that is there was changed, or the directory cannot be written.
    """
    check(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts(deployable).items():
            passing = directory / f".{name}.new"
            passing.write_text(f"{_HEAD} {_digest(text)}\n{text}", encoding="utf-8")
            passing.replace(directory / name)
    except OSError as error:
        raise ImageError(f"{directory} cannot be written: {error.strerror}", "choose another directory") from error
    return tuple(directory / name for name in NAMES)


def texts(deployable: Deployable) -> Mapping[str, str]:
    """What goes into the files, by their names."""
    return dict(zip(NAMES, (compose_file.text(deployable), kubernetes_file.text(deployable)), strict=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
