"""The mirrors commands: list what is known, and write a mirror into pip's and uv's configuration."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bootstrap import configs as journal
from bootstrap import generations, machine, plan, recommend, sourcing
from bootstrap.configs import Edit
from bootstrap.console import Console
from bootstrap.errors import UsageProblem
from bootstrap.state import Home
from mirrors import catalogue, choose, configs, urls
from mirrors.catalogue import Mirror


def known(home: Home, kind: str | None) -> list[Mirror]:
    """The catalogue with the user's own rows, of one kind or of all.

    Raises:
        UsageProblem: there is no such kind. BadMirror: the user's catalogue cannot be read.
    """
    kinds = [name for name in catalogue.KINDS if kind in (None, name)]
    if not kinds:
        raise UsageProblem(f"there is no kind of mirror called {kind!r}", f"known: {', '.join(catalogue.KINDS)}")
    return [mirror for name in kinds for mirror in catalogue.mirrors(name, home.user_mirrors)]


def as_document(mirrors: Sequence[Mirror]) -> list[dict[str, Any]]:
    """The mirrors as data, for programs; without credentials."""
    return [{**asdict(mirror), "url": urls.shown(mirror.url)} for mirror in mirrors]


def use(home: Home, which: str, scope: str, *, dry_run: bool, console: Console) -> Iterator[str]:
    """Write a package mirror into the configuration of the current environment, or of the user; one line for each file.

    Raises:
        UnknownMirror, BadMirror, NoMirror: no such mirror, or it cannot be used.
        BadConfig, SetupError: a file cannot be edited, or nothing is installed. Nothing is written then.
    """
    here = machine.detect()
    pins = plan.pins(recommend.recommend(here).torch.build, "3.11")
    with console.working("measure"):
        candidates = sourcing.candidates(which, here.pip, home.user_mirrors)
        measurements = sourcing.measure(candidates, pins, sourcing.http_settings(here.pip))
    chosen = choose.choose(measurements, 0)
    yield f"{chosen.mirror.name}: {urls.shown(chosen.mirror.url)}"
    directory = generations.current(home).path if scope == "env" else None
    edits = _edits(chosen.mirror, directory)
    if dry_run:
        yield from filter(None, map(_difference, edits))
        return
    written = journal.apply(edits, home.journal)
    yield from (f"written: {path}" for path in written)
    if not written:
        yield "nothing to change"


def _edits(mirror: Mirror, environment: Path | None) -> list[Edit]:
    """The new texts of pip's and uv's files: those in the environment, or the user's own."""
    files = {"pip.conf": configs.pip_conf, "uv.toml": configs.uv_toml}
    paths = {name: environment / name for name in files} if environment else _user_files()
    edits = []
    for name, edit in files.items():
        old = journal.read(paths[name])
        edits.append(Edit(paths[name], edit(old, mirror.url, str(paths[name])), old, private=True))
    return edits


def _user_files() -> dict[str, Path]:
    """The files that pip and uv read for this user: the older one of pip's where only that is there."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named, legacy, usual = (
        os.environ.get("PIP_CONFIG_FILE"),
        Path.home() / ".pip" / "pip.conf",
        base / "pip" / "pip.conf",
    )
    pip = Path(named) if named else legacy if legacy.exists() and not usual.exists() else usual
    return {"pip.conf": pip, "uv.toml": base / "uv" / "uv.toml"}


def _difference(edit: Edit) -> str:
    old, new = urls.redact(edit.old_text or ""), urls.redact(edit.new_text)
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(edit.path), f"{edit.path} (new)", lineterm="")
    return "\n".join(lines)
