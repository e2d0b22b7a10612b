"""The sha256 of files, in blocks: what everything else here is named and checked by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20


def read_sha256(file: BinaryIO) -> hashlib._Hash:
    """The digest of what is left of an open file; more bytes may be added to it."""
    digest = hashlib.sha256()  # Python 3.10 has no hashlib.file_digest
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return read_sha256(file).hexdigest()
