"""Makes package files of the store an environment, by whichever program was chosen; nothing is asked of a network.

The program finds the files under their own names in a channel on this disk, for as long as it runs, and unpacks them
into a package cache that goes when it is done: what is hard-linked into one environment, and may be changed there, is
not linked into the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootstrap.backends.conda import rattler
from bootstrap.backends.conda.family import Program
from bootstrap.backends.conda.indexes import directory_of
from bootstrap.backends.conda.packages import CondaPackage, address
from bootstrap.errors import SetupError
from bootstrap.state import Home, writable
from mirrors import catalogue
from mirrors.digest import sha256_of
from mirrors.store import Store

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Parts:
    """What an environment is made of.

    Attributes:
        packages: dependencies first; all of them are in the store.
        program: who puts them together; None: py-rattler.
        environ: such as CONDA_OVERRIDE_CUDA.
    """

    packages: Sequence[CondaPackage]
    program: Program | None
    environ: Mapping[str, str]


def build(prefix: Path, parts: Parts, home: Home, on_progress: Progress) -> None:
    """Make exactly these packages the contents of a prefix that is not there yet.

    Raises:
        SetupError: it failed; the prefix must not be used then.
    """
    store = Store(home.store)
    _require_whole(parts.packages, store)
    _build(prefix, parts, store, home, on_progress)
    _as_published(prefix, parts.packages)


def sweep(home: Home) -> None:
    """Remove what killed runs left. No installation may be under way."""
    shutil.rmtree(_room(home), ignore_errors=True)


def _build(prefix: Path, parts: Parts, store: Store, home: Home, on_progress: Progress) -> None:
    with _empty(_room(home)) as room:
        files = [_named(package, store, room / "channels") for package in parts.packages]
        if parts.program is not None:
            total, heard = float(len(files)), 0

            def hear(line: str) -> None:
                nonlocal heard
                heard += 1
                on_progress(0.0, total, line.strip()[:60])

            parts.program.install(prefix, [path.as_uri() for path in files], room, parts.environ, hear)
            return
        request = {
            "files": [str(path) for path in files],
            "prefix": str(prefix),
            "cache": str(room / "pkgs"),
        }
        rattler.ask("install", request, parts.environ, on_progress)


def _named(package: CondaPackage, store: Store, root: Path) -> Path:
    """The file under its own name, as a hard link where the disk allows it."""
    path = root / directory_of(package.channel) / package.subdir / package.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(store.path(package.sha256), path)
    except OSError:
        path.symlink_to(store.path(package.sha256))
    return path


def _as_published(prefix: Path, packages: Sequence[CondaPackage]) -> None:
    """Let the environment's records name the channels that the packages are of, instead of our directory."""
    upstream = catalogue.find("upstream", "conda")
    by_file = {package.filename: package for package in packages}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        package = by_file.get(str(record.get("fn")))
        if package is None:
            raise SetupError(f"{path.name} was installed, which nobody asked for", "run again with --rebuild")
        channel = address(upstream, package.channel)
        record |= {
            "channel": channel,
            "subdir": package.subdir,
            "url": f"{channel}/{package.subdir}/{package.filename}",
            "sha256": package.sha256,
        }
        for ours in ("extracted_package_dir", "package_tarball_full_path"):
            record.pop(ours, None)
        if isinstance(record.get("link"), dict):
            record["link"]["source"] = ""
        path.write_text(json.dumps(record, indent=2), encoding="utf-8")


def _require_whole(packages: Sequence[CondaPackage], store: Store) -> None:
    """Read all files again: they were verified when they came in, but no program does that for local ones.

    Raises:
        SetupError: some were changed since; those are gone from the store.
    """
    sha256s = [package.sha256 for package in packages]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda sha256: sha256_of(store.path(sha256)), sha256s)
    damaged = [sha256 for sha256, real in zip(sha256s, found, strict=True) if sha256 != real]
    for sha256 in damaged:
        store.remove(sha256)
    if damaged:
        raise SetupError(f"{len(damaged)} files in the store were changed on this disk, and are removed", "run again")


def _room(home: Home) -> Path:
    return home.cache / "conda" / "build"


@contextmanager
def _empty(directory: Path) -> Iterator[Path]:
    writable(directory.parent)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
