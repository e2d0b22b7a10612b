"""Edits of files that somebody else owns: all of a set or none, and taken back to the very byte.

A set of edits is a transaction, a directory below the journal directory:

    JOURNAL/000001/journal.json   which files, their sha256 before and after, and how far we are
    JOURNAL/000001/0.old …        the bytes from before, readable by the owner only

    writing   the journal and the old bytes are on disk; files are being replaced, each atomically
    done      all are replaced; what `undo` can take back
    undoing   the old bytes are being put back
    told      an `undo` gave back what it could, and said of the rest that it was changed since by others

What was told is in nobody's way any more: a later `undo` gives such a file back if it says again what we wrote, and
else is silent about it. Its old bytes stay.

A kill leaves "writing" or "undoing", which `recover` takes back to the old bytes. A file that was changed by others
in the meantime is never touched, nor is one that has several names (hard links), neither by an edit nor by `undo`: it
would be replaced under one name and stay as it was under the others. Knows nothing of what the texts mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from bootstrap import atomic
from bootstrap.errors import SetupError
from mirrors.disk import sync_directory

Outcome = Literal["restored", "removed", "gone", "changed-since"]
_UNFINISHED = "journal.new"


@dataclass(frozen=True)
class Edit:
    """A file's new text.

    Attributes:
        path: the file; through a symlink, what it points to is written.
        new_text: written as UTF-8, line ends as they are.
        old_text: what the new text was made from: the edit is refused if the file says something else by now. None:
            whatever is there is replaced.
        private: a file that does not exist yet is made readable for its owner only.
    """

    path: Path
    new_text: str
    old_text: str | None = None
    private: bool = False


@dataclass(frozen=True)
class Undone:
    """What `undo` did about a file.

    Attributes:
        path: the file, as it was named.
        outcome: "gone": its directory is gone, and it with it, so that there is nothing to give back.
        backup: the old bytes of one that was not touched.
    """

    path: Path
    outcome: Outcome
    backup: Path | None = None

    def __str__(self) -> str:
        """For people."""
        if self.outcome == "gone":
            return f"{self.path}: gone together with its directory, so there is nothing to give back"
        if self.outcome != "changed-since":
            return f"{self.path}: {self.outcome}"
        before = f"its bytes from before are in {self.backup}" if self.backup else "before there was no such file"
        return f"{self.path}: changed or linked elsewhere since, so left as it is; {before}"


def read(path: Path) -> str:
    """A file's text, line ends and byte order mark as they are; empty if there is none.

    Raises:
        SetupError: it cannot be read, or is not UTF-8.
    """
    with _explained():
        data = atomic.bytes_of(path)
    try:
        return (data or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8: {error.reason}", "save it as UTF-8, or move it away") from error


def apply(edits: Sequence[Edit], journal_dir: Path) -> tuple[Path, ...]:
    """Make all edits, or none; the files that are different now.

    Raises:
        SetupError: one of the files cannot be written; all are as they were.
    """
    with _explained(), _locked(journal_dir):
        _recover(journal_dir)
        entries, contents = _entries(edits)
        if not entries:
            return ()
        transaction = _Transaction.begin(journal_dir, entries)
        try:
            for entry, content in zip(entries, contents, strict=True):
                atomic.replace(Path(entry.target), content, transaction.temporary(entry), private=entry.private)
        except BaseException:
            transaction.take_back()
            raise
        transaction.save("done")
        return tuple(Path(entry.path) for entry in entries)


def recover(journal_dir: Path) -> list[Undone]:
    """Take back what a kill left half done, and collect what it left lying about; what was taken back."""
    if not journal_dir.exists():
        return []
    with _explained(), _locked(journal_dir):
        return _recover(journal_dir)


def undo(journal_dir: Path) -> list[Undone]:
    """Give every file that was edited its old bytes back, newest edit first, or remove it if there was none.

    One that was changed since by others is left alone and said so, once. A file that was edited several times can have
    both: what was given back of it, and each backup that was not.
    """
    if not journal_dir.exists():
        return []
    with _explained(), _locked(journal_dir):
        undone = _recover(journal_dir)
        for transaction in reversed(list(_Transaction.all(journal_dir))):
            was_told = transaction.state == "told"
            if not was_told:
                transaction.save("undoing")
            found = transaction.take_back(told=True)
            undone += [it for it in found if not (was_told and it.outcome == "changed-since")]
        return list({(it.path, it.outcome == "changed-since", it.backup): it for it in undone}.values())


@dataclass(frozen=True)
class _Entry:
    """One file of a transaction. `old` and `new` are sha256; `old` is None where there was no file."""

    path: str  # as it was named
    target: str  # what was written, symlinks resolved
    old: str | None
    new: str
    backup: str
    made: tuple[str, ...]  # directories that were made for it, outermost first
    private: bool


class _Transaction:
    """A directory of the journal."""

    def __init__(self, directory: Path, entries: Sequence[_Entry], state: str) -> None:
        self.directory = directory
        self.entries = tuple(entries)
        self.state = state

    @classmethod
    def begin(cls, journal_dir: Path, entries: Sequence[_Entry]) -> _Transaction:
        """Put all that is needed to go back on disk. Until this returns, nothing else was changed."""
        number = max((int(path.name) for path in _numbered(journal_dir)), default=0) + 1
        transaction = cls(journal_dir / f"{number:06}", entries, "writing")
        transaction.directory.mkdir(mode=0o700)
        for entry in entries:
            data = atomic.bytes_of(Path(entry.target))
            if atomic.sha256(data) != entry.old:
                raise SetupError(f"{entry.path} was changed while we looked at it", "run the command again")
            if data is not None:
                atomic.write_new(transaction.directory / entry.backup, data, 0o600)
        transaction.save("writing")
        sync_directory(journal_dir)
        return transaction

    @classmethod
    def all(cls, journal_dir: Path) -> Iterator[_Transaction]:
        """Oldest first; what never got as far as a journal is cleared away."""
        for directory in sorted(_numbered(journal_dir)):
            journal = directory / "journal.json"
            if not journal.exists():
                shutil.rmtree(directory)
                continue
            yield cls._load(directory, journal)

    @classmethod
    def _load(cls, directory: Path, journal: Path) -> _Transaction:
        try:
            content = json.loads(journal.read_text(encoding="ascii"))
            entries = [_Entry(**{**entry, "made": tuple(entry["made"])}) for entry in content["entries"]]
            return cls(directory, entries, content["state"])
        except (ValueError, KeyError, TypeError) as error:
            hint = f"the files from before lie beside it; move {directory} away"
            raise SetupError(f"{journal} is damaged: {error}", hint) from error

    def save(self, state: str) -> None:
        self.state = state
        content = json.dumps({"state": state, "entries": [asdict(entry) for entry in self.entries]}, indent=1)
        temporary = self.directory / _UNFINISHED
        temporary.unlink(missing_ok=True)
        atomic.write_new(temporary, content.encode("ascii"), 0o600)
        temporary.replace(self.directory / "journal.json")
        sync_directory(self.directory)

    def temporary(self, entry: _Entry) -> Path:
        number = entry.backup.removesuffix(".old")
        return Path(entry.target).with_name(f".i2v-setup-{self.directory.name}-{number}")

    def collect(self) -> None:
        """Remove what a killed write left beside the files, and in the journal."""
        atomic.remove(self.directory / _UNFINISHED)
        for entry in self.entries:
            atomic.remove(self.temporary(entry))

    def take_back(self, *, told: bool = False) -> list[Undone]:
        """Old bytes for all files that others did not change. The rest stay in the journal, with their backups.

        Args:
            told: whether the person hears of the rest by this.
        """
        self.collect()
        undone = [self._take_back(entry) for entry in self.entries]
        left = [entry for entry, it in zip(self.entries, undone, strict=True) if it.outcome == "changed-since"]
        if left:
            self.entries = tuple(left)
            self.save("told" if told else "done")
        else:
            (self.directory / "journal.json").unlink()
            shutil.rmtree(self.directory)
        return undone

    def _take_back(self, entry: _Entry) -> Undone:
        path, target = Path(entry.path), Path(entry.target)
        backup = self.directory / entry.backup
        now = atomic.sha256(atomic.bytes_of(target))
        gone = now is None and not target.parent.exists() and self.state != "told"  # a backup that was told of stays
        changed = now not in (entry.old, entry.new) or (now != entry.old and atomic.has_other_names(target))
        if changed and not gone:
            return Undone(path, "changed-since", backup if entry.old else None)
        if entry.old is None:
            atomic.remove(target)
            for directory in reversed(entry.made):
                with suppress(OSError):  # not empty: somebody else uses it by now
                    Path(directory).rmdir()
        elif now != entry.old and not gone:
            atomic.replace(target, backup.read_bytes(), self.temporary(entry), private=False)
        if gone:
            return Undone(path, "gone")
        return Undone(path, "removed" if entry.old is None else "restored")


def _recover(journal_dir: Path) -> list[Undone]:
    undone = []
    for transaction in reversed(list(_Transaction.all(journal_dir))):
        if transaction.state in ("done", "told"):
            transaction.collect()
        else:
            undone += transaction.take_back()
    return undone


def _entries(edits: Iterable[Edit]) -> tuple[list[_Entry], list[bytes]]:
    """The edits that change something, and their bytes."""
    entries: list[_Entry] = []
    contents = []
    for edit in edits:
        target = Path(os.path.realpath(edit.path))
        if any(entry.target == str(target) for entry in entries):
            raise SetupError(f"{edit.path} would be edited twice: another one is a link to it", "keep one of them")
        old, new = atomic.bytes_of(target), edit.new_text.encode("utf-8")
        if edit.old_text is not None and (old or b"") != edit.old_text.encode("utf-8"):
            raise SetupError(f"{edit.path} was changed while we looked at it", "run the command again")
        if old == new:
            continue
        atomic.require_writable(edit.path, target)
        made = tuple(str(parent) for parent in reversed(target.parents) if not parent.exists())
        backup, new_hash = f"{len(entries)}.old", hashlib.sha256(new).hexdigest()
        entries.append(_Entry(str(edit.path), str(target), atomic.sha256(old), new_hash, backup, made, edit.private))
        contents.append(new)
    return entries, contents


def _numbered(journal_dir: Path) -> list[Path]:
    return [path for path in journal_dir.iterdir() if path.name.isdigit()]


@contextmanager
def _locked(journal_dir: Path) -> Iterator[None]:
    journal_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(journal_dir / "lock"):
        yield


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SetupError(f"{error.filename or 'a file'}: {reason}", "mend that, and run the command again") from error
