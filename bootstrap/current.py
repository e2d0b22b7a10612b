"""Which environment is in use: the symlink `current`, and what it pointed to before.

The symlink alone says what is current. `history.json` beside it names what was current before that, oldest first, so
that one can go back. It is written first and may name too much after a kill: what is gone, or is current, is skipped.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from bootstrap import atomic, generations
from bootstrap.errors import SetupError
from bootstrap.generations import Generation
from bootstrap.state import Home
from mirrors.disk import sync_directory

_KEPT = 20  # names; older ones are forgotten


def current(home: Home) -> Generation:
    """The generation in use.

    Raises:
        SetupError: nothing was installed yet, or what is current is damaged.
    """
    path = home.current.resolve()
    if not home.current.is_symlink():
        raise SetupError("nothing is installed yet", "run `i2v-setup install --model demo --mirror auto`")
    found = generations.find(path)
    if found is None:
        raise SetupError(
            f"{path} is damaged: its record or its interpreter is gone",
            "run `i2v-setup install` again, or `i2v-setup env rollback`",
        )
    return found


def is_current(home: Home, generation: Generation) -> bool:
    """Whether it is the one in use."""
    return home.current.is_symlink() and home.current.resolve() == generation.path.resolve()


def previous(home: Home) -> Generation | None:
    """What was in use before, and is whole."""
    return next(reversed(_before(home)), None)


def make_current(home: Home, generation: Generation) -> None:
    """Move the symlink to this generation, in one step that lasts over a power cut. What it was is kept in mind."""
    before = [one.name for one in _before(home) if one.name != generation.name]
    if home.current.is_symlink() and not is_current(home, generation):
        before.append(home.current.resolve().name)
    _remember(home, before)
    _point(home, generation)


def go_back(home: Home) -> Generation:
    """Make current what was current before; each call goes one further back.

    Raises:
        SetupError: there is nothing to go back to, or it is damaged.
    """
    before = _before(home)
    if not before:
        raise SetupError("there is no earlier environment to go back to", "see what is here: i2v-setup env list")
    target = before[-1]
    generations.require_intact(target)
    _point(home, target)
    _remember(home, [one.name for one in before[:-1]])
    return target


def sweep(home: Home) -> None:
    """Remove the links that killed processes were about to put in place."""
    for path in (*home.current.parent.glob(".current.*"), _history(home).with_name(".history.json")):
        path.unlink(missing_ok=True)


def _before(home: Home) -> list[Generation]:
    """What was current before, oldest first: those that are whole, without the one that is current."""
    try:
        names = json.loads(_history(home).read_text(encoding="utf-8"))
        found = [generations.find(home.environments / str(name)) for name in names]
    except (OSError, ValueError, TypeError):
        return []
    return [one for one in found if one is not None and not is_current(home, one)]


def _remember(home: Home, names: list[str]) -> None:
    text = json.dumps(names[-_KEPT:], indent=2) + "\n"
    with suppress(OSError):  # what is current matters more than the way back
        atomic.replace(_history(home), text.encode(), _history(home).with_name(".history.json"), private=False)


def _point(home: Home, generation: Generation) -> None:
    temporary = home.current.with_name(f".current.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(generation.path, target_is_directory=True)
    temporary.replace(home.current)
    sync_directory(home.current.parent)


def _history(home: Home) -> Path:
    return home.data / "history.json"
