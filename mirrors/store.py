"""A content-addressed store: a file is its sha256, and is there in full or not at all.

    ROOT/sha256/ab/abcd…      whole files, verified, read-only; their access time is when they were last used
    ROOT/partial/abcd…        bytes that came in so far, kept over kills (see mirrors.partial)
    ROOT/partial/tmp…/        a local file that is being taken in; its `lock` is held meanwhile
    ROOT/locks/abcd….lock     held by the one process that adds or removes that file

Safe under concurrent processes and threads. Knows nothing of networks.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mirrors.digest import read_sha256
from mirrors.disk import free_space, made, sync_directory, trouble
from mirrors.errors import Busy, MirrorError
from mirrors.partial import Mismatch, Partial, notes_of

__all__ = ["Mismatch", "Partial", "Store", "Stored", "free_space", "trouble"]


@dataclass(frozen=True)
class Stored:
    """A file of the store.

    Attributes:
        sha256: its name.
        size: the bytes that it takes.
        used: when it was last used, in seconds since the epoch.
        whole: False: only parts of it came in so far.
    """

    sha256: str
    size: int
    used: float
    whole: bool = True


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
        """Whether the file is there. This counts as a use of it.

        It was verified when it came in, and is not read again.
        """
        path = self.path(sha256)
        with suppress(OSError):  # somebody else's store can be used, but not marked
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return path.is_file()

    def add(self, path: Path, sha256: str | None = None) -> str:
        """Take a local file in, as a hard link where the disk allows it, else as a copy; its sha256.

        The file must not be rewritten in place afterwards (replacing it is fine).

        Args:
            path: the file.
            sha256: what it has to have; None: anything.

        Raises:
            Mismatch: it has another sha256. The store is as it was.
            MirrorError: it cannot be read, or the store cannot be written.
        """
        with (
            trouble(self.root),
            tempfile.TemporaryDirectory(dir=made(self.root / "partial")) as directory,
            FileLock(Path(directory) / "lock"),
        ):
            taken = Path(directory) / "file"
            try:
                if path.stat().st_uid != os.geteuid():
                    raise PermissionError  # its owner could rewrite the link's bytes after they were checked
                os.link(path.resolve(), taken)
            except OSError:
                shutil.copyfile(path, taken)
                taken.chmod(0o444)
            with taken.open("rb") as file:  # what was linked is what is hashed, whatever happens to `path`
                found = read_sha256(file).hexdigest()
                os.fsync(file.fileno())
            if sha256 not in (None, found):
                raise Mismatch(f"{path} has the sha256 {found}, not {sha256}")
            final = self.path(found)
            made(final.parent)
            taken.replace(final)
            sync_directory(final.parent)
        return found

    @contextmanager
    def incoming(self, sha256: str, *, wait: bool = True) -> Iterator[Partial | None]:
        """The right to add that file, then its bytes so far; None if the file is there now.

        Args:
            sha256: the file.
            wait: until whoever has that right is done with it.

        Raises:
            Busy: another process or thread is adding it, and `wait` is False.
            MirrorError: the store cannot be written.
        """
        with self._locked(sha256, wait=wait):
            if self.has(sha256):
                yield None
                return
            with trouble(self.root):
                partial = Partial(made(self.root / "partial") / sha256, self.path(sha256))
            try:
                yield partial
            finally:
                partial.close()

    def objects(self) -> Iterator[Stored]:
        """All whole files, then what is left over of files that never became whole."""
        for directory, whole in (("sha256/*", True), ("partial", False)):
            for path in sorted(self.root.glob(f"{directory}/*")):
                with suppress(OSError):  # removed meanwhile
                    if re.fullmatch("[0-9a-f]{64}", path.name):
                        facts = path.stat()
                        used = facts.st_atime if whole else facts.st_mtime
                        yield Stored(path.name, facts.st_blocks * 512, used, whole)

    def remove(self, sha256: str) -> bool:
        """Remove a file, or what is left over of it, and its lock; False: left alone, as a running process holds it.

        Raises:
            MirrorError: the store cannot be written.
        """
        partial = self.root / "partial" / sha256
        try:
            with trouble(self.root), self._locked(sha256, wait=False) as lock:
                for path in (self.path(sha256), partial, notes_of(partial), lock):
                    path.unlink(missing_ok=True)
        except Busy:
            return False
        return True

    def debris(self) -> Iterator[Path]:
        """What killed processes left that belongs to no file: directories of `add`, and notes on bytes that are gone.

        Some of it may still be in use: `discard` finds out.
        """
        for path in sorted(self.root.glob("partial/tmp*")):
            if path.is_dir() and not path.is_symlink():
                yield path
        for path in sorted(self.root.glob("partial/*.have")):
            if re.fullmatch("[0-9a-f]{64}", path.stem) and not path.with_suffix("").exists():
                yield path

    def discard(self, debris: Path) -> bool:
        """Remove what `debris` found; False: left alone, as a running process holds it or has made use of it.

        Raises:
            MirrorError: the store cannot be written.
        """
        if not debris.exists():
            return False
        with trouble(self.root), suppress(Busy):
            if debris.suffix == ".have":
                with self._locked(debris.stem, wait=False):
                    if debris.with_suffix("").exists():
                        return False
                    debris.unlink(missing_ok=True)
                return True
            with _held(debris / "lock"):
                shutil.rmtree(debris)
            return True
        return False

    def sweep(self) -> None:
        """Remove the locks that nobody holds. What they guard stays."""
        for lock in sorted(self.root.glob("locks/*.lock")):
            with suppress(Busy), trouble(self.root), self._locked(lock.stem, wait=False):
                lock.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, sha256: str, *, wait: bool) -> Iterator[Path]:
        """The only one that changes that file, in this process and among all of them."""
        self.path(sha256)
        with trouble(self.root):
            path = made(self.root / "locks") / f"{sha256}.lock"
            lock = FileLock(path, thread_local=False)
            try:
                lock.acquire(timeout=-1 if wait else 0, poll_interval=0.05)
                while not path.exists():  # `remove` took the file away that we had been waiting for
                    lock.release()
                    lock.acquire(timeout=-1 if wait else 0, poll_interval=0.05)
            except Timeout:
                raise Busy(f"another process is fetching {sha256[:12]}…", "wait for it") from None
        try:
            yield path
        finally:
            lock.release()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A lock file, now or not at all."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"another process holds {path}", "wait for it") from None
    try:
        yield
    finally:
        lock.release()
