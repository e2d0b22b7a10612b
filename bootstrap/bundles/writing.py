"""Writes a bundle: what a plan needs is fetched into the store, and laid out in one directory from there.

What is there already and has the right bytes is kept, so that one that was interrupted is gone on with. The manifest
comes last, in one step: a directory without it is no bundle. Files are copied, since a bundle is carried elsewhere; on
the store's own file system they are linked.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bootstrap import room, weights, wheels
from bootstrap.bundles import manifest, tool
from bootstrap.bundles.manifest import Bundle, Entry
from bootstrap.bundles.taking import LEARNT
from bootstrap.console import Console, Task
from bootstrap.errors import UsageProblem
from bootstrap.execute import Site
from bootstrap.packages import PackageSources
from bootstrap.recipe import Recipe
from bootstrap.room import Need
from bootstrap.state import Home, writable
from mirrors.digest import sha256_of
from mirrors.disk import sync_directory, trouble
from mirrors.resolve import Wheel
from mirrors.store import Store
from mirrors.tags import supported
from runtime import __version__
from runtime.models import ModelSpec

_FOLDERS = ("wheels", "models", "locks", "tool")
_NAMES = (manifest.NAME, manifest.UNFINISHED, LEARNT)


@dataclass(frozen=True)
class Contents:
    """What a bundle is made from. `sources` is None where all wheels are on this machine."""

    recipe: Recipe
    model: ModelSpec
    wheels: tuple[Wheel, ...]
    sources: PackageSources | None


@dataclass(frozen=True)
class Piece:
    """A file that goes into a bundle: its place there, and where it is taken from."""

    entry: Entry
    source: Path


def require_usable(directory: Path) -> None:
    """Check that a bundle may be written there: into a new directory, an empty one, or what was once a bundle.

    Raises:
        UsageProblem: there is something else.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageProblem(f"{directory} is a file", "name a directory")
    here = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if here - {"lost+found"} and not here & {manifest.NAME, manifest.UNFINISHED}:
        raise UsageProblem(f"{directory} is not empty, and is no bundle", "name a new directory")


def write(contents: Contents, directory: Path, site: Site, *, with_tool: bool) -> Bundle:
    """Fetch what is missing and write the bundle.

    Raises:
        MirrorError, SetupError: something could not be had, or the disk is full. What is there is kept.
    """
    fetch(contents, site)
    pieces = list(_pieces(contents, site.home))
    with tool.wheels(site.console, wanted=with_tool) as own:
        pieces += [_piece(f"tool/{path.name}", path) for path in own]
        return _lay_out(contents, pieces, directory, site.console)


def fetch(contents: Contents, site: Site) -> None:
    """Everything into the store.

    Raises:
        MirrorError: something could not be had.
    """
    console, home, recorder = site.console, site.home, site.recorder
    if contents.sources is not None:
        total = float(wheels.size(contents.wheels))
        with console.working("fetch the wheels", total) as task, recorder.phase("packages", "fetch the wheels"):
            wheels.bring(home, contents.wheels, contents.sources, site.http, task.counting(int(total)))
            wheels.learn(home, supported(contents.recipe.python.version), contents.wheels)
    model = contents.model
    if weights.present(home, model) and not weights.missing(home, model):
        return
    total = float(model.weight_bytes)
    with console.working(f"fetch {model.id}", total) as task, recorder.phase("weights", f"fetch {model.id}"):
        count = task.counting(int(total))
        weights.bring(home, model, site.http, on_bytes=count, say=console.say, recorder=recorder, offline=site.offline)


def _pieces(contents: Contents, home: Home) -> Iterator[Piece]:
    store, model, lock = Store(home.store), weights.known(home, contents.model), contents.recipe.lock
    for filename, path in wheels.paths(home, contents.wheels).items():
        sha256 = next(wheel.artifact.sha256 for wheel in contents.wheels if wheel.filename == filename)
        yield Piece(Entry(f"wheels/{filename}", path.stat().st_size, sha256), path)
    for file in model.files:
        assert file.sha256 is not None
        path = store.path(file.sha256)
        yield Piece(Entry(f"models/{model.id}/{file.path}", path.stat().st_size, file.sha256), path)
    yield Piece(Entry(f"locks/{lock.path.name}", lock.path.stat().st_size, lock.sha256), lock.path)
    if home.weights_lock.exists():
        yield _piece(LEARNT, home.weights_lock)


def _piece(name: str, path: Path) -> Piece:
    return Piece(Entry(name, path.stat().st_size, sha256_of(path)), path)


def _lay_out(contents: Contents, pieces: Sequence[Piece], directory: Path, console: Console) -> Bundle:
    bundle = _described(contents, pieces, directory)
    writable(directory)
    room.require([Need(directory, _lacking(pieces, directory), "the bundle")], "this bundle")
    finished, unfinished = directory / manifest.NAME, directory / manifest.UNFINISHED
    with trouble(directory), console.working(f"write {directory}", float(bundle.size)) as task:
        finished.unlink(missing_ok=True)
        unfinished.write_text(bundle.text(), encoding="utf-8")
        _remove_strays(directory, {piece.entry.path for piece in pieces})
        for piece in pieces:
            task.say(piece.entry.path)
            _place(piece, directory, task)
        _sync(unfinished)
        unfinished.replace(finished)
        sync_directory(directory)
    return bundle


def _described(contents: Contents, pieces: Sequence[Piece], directory: Path) -> Bundle:
    recipe, lock = contents.recipe, contents.recipe.lock
    return Bundle(
        directory,
        __version__,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        platform.system(),
        platform.machine(),
        recipe.build.id,
        recipe.python.version,
        f"locks/{lock.path.name}",
        lock.name,
        contents.model.id,
        tuple(piece.entry for piece in pieces),
    )


def _place(piece: Piece, directory: Path, task: Task) -> None:
    """Put a file in its place, unless it is there; on disk when this returns."""
    target = directory / piece.entry.path
    if not _is(target, piece.entry):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(piece.source)
        except OSError:
            shutil.copyfile(piece.source, temporary)
            _sync(temporary)
        temporary.replace(target)
        sync_directory(target.parent)
    task.advance(piece.entry.size)


def _is(path: Path, entry: Entry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and sha256_of(path) == entry.sha256


def _lacking(pieces: Iterable[Piece], directory: Path) -> int:
    """Bytes that the directory's disk takes: not those that are there, nor what can be linked."""
    total = 0
    for piece in pieces:
        target = directory / piece.entry.path
        here = target.is_file() and target.stat().st_size == piece.entry.size
        total += 0 if here or room.same_disk(piece.source, directory) else piece.entry.size
    return total


def _remove_strays(directory: Path, wanted: set[str]) -> None:
    """What an earlier bundle left in our own folders; what others put beside them stays."""
    for folder in _FOLDERS:
        for path in sorted((directory / folder).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):
                    path.rmdir()  # if it is empty
            elif path.relative_to(directory).as_posix() not in wanted:
                path.unlink()
    if LEARNT not in wanted:
        (directory / LEARNT).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
