"""Files replaced in one step: whoever reads one sees the old bytes or the new ones, whatever kills us.

Mode, owner, extended attributes and symlinks stay as they were; what has hard links is not replaced. Knows nothing of
why a file is written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from bootstrap.errors import SetupError
from mirrors.disk import sync_directory


def require_writable(path: Path, target: Path) -> None:
    """Replacing a file needs no permission to write it, so its owner's wish is asked for here.

    A file with several names is left alone: replaced under one of them, it would go on as it was under the others.

    Args:
        path: the file as it was named, for messages.
        target: the same with symlinks resolved.

    Raises:
        SetupError: it should not be replaced.
    """
    if target.exists():
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SetupError(f"{path} is not a file", "move it away")
        if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
            raise SetupError(f"{path} is read-only", f"make it writable, or edit it yourself: {target}")
        if os.geteuid() not in (0, status.st_uid):
            raise SetupError(f"{path} belongs to another user", "run the command as that user")
        if status.st_nlink > 1:
            raise SetupError(
                f"{path} has {status.st_nlink} names (hard links), and only this one would be changed",
                f"make the others symlinks to {target}, or edit the file yourself",
            )
    parent = next(parent for parent in target.parents if parent.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise SetupError(f"{parent} is read-only, so {path} cannot be written", "make the directory writable")


def replace(target: Path, content: bytes, temporary: Path, *, private: bool) -> None:
    """Write a file by way of a temporary one beside it. `private`: a new one is for its owner only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    if target.exists():
        write_new(temporary, content, 0o600, model=target)
    else:
        write_new(temporary, content, 0o600 if private else 0o666)
    temporary.replace(target)
    sync_directory(target.parent)


def write_new(path: Path, content: bytes, mode: int, model: Path | None = None) -> None:
    """Write a file that is not there yet, and see it on disk; `model` is a file whose owner and attributes it gets."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if model is not None:
            wanted, made = model.stat(), os.fstat(descriptor)
            if (made.st_uid, made.st_gid) != (wanted.st_uid, wanted.st_gid):
                os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
            shutil.copystat(model, path)
            os.utime(path)
        os.fsync(descriptor)


def bytes_of(path: Path) -> bytes | None:
    """A file's bytes; None if there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def sha256(data: bytes | None) -> str | None:
    """The digest of what `bytes_of` gave."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def has_other_names(path: Path) -> bool:
    """Whether there are other hard links to a file."""
    try:
        return path.stat().st_nlink > 1
    except (FileNotFoundError, NotADirectoryError):
        return False
