"""Whether the files of this environment and of a model are still those that were installed.

What packages brought is told by their own records (RECORD, conda-meta), what a model consists of by its manifest.
Standard library only, so that it runs where a package is broken. Knows nothing of why a file is not what it was.
"""

import base64
import csv
import hashlib
import json
import os
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.models import ModelSpec

_BLOCK = 1 << 22
_THREADS = 4  # sha256 runs at 1.4 GB/s on one core
_TELL = 0.5  # seconds
_MANGLED = "is not as it was written"

#: Told now and then: the file that is read, bytes so far, bytes in all.
OnRead = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Installed:
    """A file as it was installed: where it is, whose it is, its size and its sha256 as far as they are known.

    `wrong` says what is wrong with it, where that is seen without looking at it again.
    """

    path: Path
    owner: str
    name: str
    size: int | None
    sha256: str | None
    wrong: str = ""


@dataclass(frozen=True)
class Damage:
    """A file that is not what was installed, and how that shows: half a sentence."""

    file: Installed
    reason: str


def package_files(site: Path | None = None, prefix: Path | None = None) -> list[Installed]:
    """The files of all packages that uv or conda installed. Others change files afterwards without saying so."""
    place = site or Path(sysconfig.get_path("purelib"))
    found = _of_conda(prefix or Path(sys.prefix), place)
    for records in sorted(place.glob("*.dist-info")):
        if _text(records / "INSTALLER").strip() == "uv":
            owner = records.name.partition("-")[0]
            found += _recorded(place, owner, f"{records.name}/RECORD")
    return found


def model_files(spec: ModelSpec, directory: Path) -> list[Installed]:
    """The files of a model."""
    return [Installed(directory / file.path, spec.id, file.path, file.size, file.sha256) for file in spec.files]


def damaged(files: Iterable[Installed]) -> list[Damage]:
    """Those that are gone, or have another size. Reads none of them."""
    return [found for file in files if (found := _looked_at(file)) is not None]


def changed(files: Iterable[Installed], on_read: OnRead) -> list[Damage]:
    """Those whose bytes have another sha256. Reads all of them; what is gone is for `damaged` to say."""
    here = [file for file in files if file.sha256 is not None and file.path.is_file()]
    reading = _Reading(sum(file.path.stat().st_size for file in here), on_read)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return [found for found in pool.map(reading.read, here) if found is not None]


class _Reading:
    """Files that are read again, by several threads, and how far that is."""

    def __init__(self, total: int, on_read: OnRead) -> None:
        self._total, self._on_read = total, on_read
        self._done, self._told = 0, time.monotonic()

    def read(self, file: Installed) -> Damage | None:
        digest = hashlib.sha256()
        try:
            with file.path.open("rb") as opened:
                while block := opened.read(_BLOCK):
                    digest.update(block)
                    self._tell(file, len(block))
        except OSError as error:
            return Damage(file, f"cannot be read: {error.strerror or error}")
        return None if digest.hexdigest() == file.sha256 else Damage(file, "has other bytes than were installed")

    def _tell(self, file: Installed, count: int) -> None:
        self._done += count  # two threads may lose a block here: it is for people
        if time.monotonic() - self._told >= _TELL:
            self._told = time.monotonic()
            self._on_read(file.name, self._done, self._total)


def _looked_at(file: Installed) -> Damage | None:
    if file.wrong:
        return Damage(file, file.wrong)
    try:
        size = file.path.stat().st_size
    except FileNotFoundError:
        return Damage(file, "is gone")
    except OSError as error:
        return Damage(file, f"cannot be read: {error.strerror}")
    if file.size is not None and size != file.size:
        return Damage(file, f"has {size} bytes, not {file.size}")
    return None


def _recorded(site: Path, owner: str, record: str) -> Iterator[Installed]:
    """The record itself, then what it lists: where it is gone or mangled, nothing says what belongs to the package."""
    yield Installed(site / record, owner, record, None, None)
    text = _text(site / record).replace("\0", "\ufffd")  # no path has that
    try:
        for name, digest, size in filter(None, csv.reader(text.splitlines(), strict=True)):
            yield Installed(site / name, owner, name, int(size) if size else None, _sha256(digest))
    except (csv.Error, ValueError):
        yield Installed(site / record, owner, record, None, None, _MANGLED)


def _of_conda(prefix: Path, site: Path) -> list[Installed]:
    """What conda's records list; mamba and rattler write the same ones.

    Of a path that two packages have, the one that came last wins, and no record tells which that was.
    """
    found: list[Installed] = []
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record, owner = f"{path.parent.name}/{path.name}", path.stem.rsplit("-", 2)[0]
        try:
            rows = json.loads(_text(path))["paths_data"]["paths"]
            found += [_conda_file(prefix, site, owner, row) for row in rows if _is_kept(row)]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            found.append(Installed(path, owner, record, None, None, _MANGLED))
    listed = Counter(file.path for file in found)
    return [file if listed[file.path] == 1 else replace(file, size=None, sha256=None) for file in found]


def _is_kept(row: dict[str, Any]) -> bool:
    """Whether a file stays as it was installed: links may lead nowhere, and Python writes bytecode anew."""
    return row.get("path_type") == "hardlink" and not row["_path"].endswith(".pyc")


def _conda_file(prefix: Path, site: Path, owner: str, row: dict[str, Any]) -> Installed:
    """A row of a record. Where the prefix was written into the file, only `sha256_in_prefix` still holds."""
    name, published, here = row["_path"], row.get("sha256"), row.get("sha256_in_prefix")
    rewritten = row.get("prefix_placeholder") is not None or here not in (None, published)
    size = None if rewritten else row.get("size_in_bytes")
    sha256 = here if rewritten else published
    os.fsencode(name)  # raises ValueError for what no path can be
    if "\0" in name or not isinstance(size, int | None) or not isinstance(sha256, str | None):
        raise ValueError(name)
    return Installed(_conda_place(prefix, site, name), owner, name, size, sha256)


def _conda_place(prefix: Path, site: Path, name: str) -> Path:
    """Where a file lies: of packages for any Python, conda keeps the names that stand in the package."""
    folder, _, rest = name.partition("/")
    return {"site-packages": site, "python-scripts": prefix / "bin"}.get(folder, prefix / folder) / rest


def _sha256(digest: str) -> str | None:
    """A RECORD's digest, which is in base64 without padding, in hex."""
    kind, _, value = digest.partition("=")
    return base64.urlsafe_b64decode(f"{value}==").hex() if kind == "sha256" else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
