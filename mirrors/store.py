"""A content-addressed store: a file is its sha256, and is there in full or not at all.

    ROOT/sha256/ab/abcd…    whole files, verified, read-only
    ROOT/partial/abcd…      bytes that came in so far, kept over kills
    ROOT/locks/abcd….lock   held by the one process that adds that file

Safe under concurrent processes. Knows nothing of networks.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from mirrors.digest import read_sha256
from mirrors.errors import MirrorError, NoSpace


class Mismatch(MirrorError):
    """The bytes are not those that the sha256 names."""


class Store:
    """The files below one directory, by sha256 (64 lower-case hexadecimal digits)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where the file lies, or will lie."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise MirrorError(f"{sha256!r} is no sha256", "a sha256 has 64 lower-case hexadecimal digits")
        return self.root / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether the file is there. It was verified when it came in; its bytes are not read again."""
        return self.path(sha256).is_file()

    def add(self, path: Path) -> str:
        """Take a local file in, as a hard link where the disk allows it, else as a copy; its sha256.

        The file must not be rewritten in place afterwards (replacing it is fine).

        Raises:
            MirrorError: it cannot be read, or the store cannot be written.
        """
        with trouble(self.root), tempfile.TemporaryDirectory(dir=_made(self.root / "partial")) as directory:
            taken = Path(directory) / "file"
            try:
                os.link(path.resolve(), taken)
            except OSError:
                shutil.copyfile(path, taken)
                taken.chmod(0o444)
            with taken.open("rb") as file:  # what was linked is what is hashed, whatever happens to `path`
                sha256 = read_sha256(file).hexdigest()
            self._publish(taken, sha256)
        return sha256

    @contextmanager
    def incoming(self, sha256: str) -> Iterator[Partial | None]:
        """The right to add that file: waits for whoever has it, then yields its bytes so far; None if it is there now.

        Raises:
            MirrorError: the store cannot be written.
        """
        self.path(sha256)
        with trouble(self.root):
            lock = FileLock(_made(self.root / "locks") / f"{sha256}.lock")
            lock.acquire()
        try:
            if self.has(sha256):
                yield None
                return
            with trouble(self.root):
                partial = Partial(self, sha256, _made(self.root / "partial") / sha256)
            try:
                yield partial
            finally:
                partial.close()
        finally:
            lock.release()

    def _publish(self, file: Path, sha256: str) -> Path:
        final = self.path(sha256)
        _made(final.parent)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.replace(final)
        directory = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return final


class Partial:
    """The bytes of one file that are here so far, hashed as they are written."""

    def __init__(self, store: Store, sha256: str, path: Path) -> None:
        self._store = store
        self._sha256 = sha256
        self.path = path
        self._file = path.open("a+b")
        self._file.seek(0)
        self._hash = read_sha256(self._file)
        self.size = self._file.tell()

    @property
    def complete(self) -> bool:
        """Whether these are the very bytes."""
        return self._hash.hexdigest() == self._sha256

    def write(self, block: bytes) -> None:
        """Append bytes.

        Raises:
            NoSpace: the disk is full. What was written stays for the next time.
        """
        with trouble(self.path):
            self._file.write(block)
            self._file.flush()
        self._hash.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Throw the bytes away."""
        with trouble(self.path):
            self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def publish(self) -> Path:
        """Make the file visible in the store; where it lies.

        Raises:
            Mismatch: these are other bytes.
        """
        if not self.complete:
            raise Mismatch(f"{self.size} bytes have the sha256 {self._hash.hexdigest()}, not {self._sha256}")
        with trouble(self.path):
            self.path.chmod(0o444)
            return self._store._publish(self.path, self._sha256)

    def close(self) -> None:
        """Let go of the file; its bytes stay, unless there are none."""
        with trouble(self.path):
            self._file.close()
            if not self.size:
                self.path.unlink(missing_ok=True)


def free_space(path: Path) -> int:
    """The bytes that the disk of an existing path still has for us."""
    with trouble(path):
        return shutil.disk_usage(path).free


@contextmanager
def trouble(path: Path) -> Iterator[None]:
    """What the file system refuses, as errors that a person can mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"the disk that holds {path} is full", "make room, and run the same command again") from error
        reason = error.strerror or error
        raise MirrorError(f"{error.filename or path}: {reason}", "choose a directory that you can write to") from error


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
