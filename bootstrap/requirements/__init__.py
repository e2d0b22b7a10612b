"""A user's own lock in place of the shipped one: requirements.txt with hashes, or pylock.toml (PEP 751).

What comes of it is a lock as the shipped ones are, in the user's configuration, named by its content. Lines without
version or hash are an error, unless they may be resolved: then uv does it once, and the result is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bootstrap import atomic, recipe, torch_builds
from bootstrap.errors import SetupError
from bootstrap.locking.text import Entry
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.recipe import Lock
from bootstrap.requirements import lines, pylock, resolving
from bootstrap.requirements.lines import BadRequirements
from bootstrap.state import Home, writable
from bootstrap.torch_builds import BUILDS

__all__ = ["BadRequirements", "lock", "warnings"]

_STEM = 40  # characters of a name: file systems take 255 bytes
_ON_PYPI = torch_builds.find("cu130")


def lock(
    home: Home,
    path: Path,
    python: str,
    *,
    resolve_from: Callable[[], PackageSources] | None = None,
    again: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Lock:
    """The user's file as a lock.

    Args:
        home: where the user's locks are kept.
        path: requirements.txt or pylock.toml.
        python: the version that is installed for ("3.11"); what is resolved is resolved for it and this machine.
        resolve_from: where lines without version or hash are resolved; None: they are an error. Asked only where that
            was not done for the same file before.
        again: resolve anew what was resolved before.
        say: told what of the file is not heeded, and what was resolved.

    Raises:
        BadRequirements: a line, named by its number, that cannot be installed as it is written.
        SetupError: the file cannot be read, or uv finds no solution.
    """
    text = _text_of(path)
    if path.suffix == ".toml":
        return _once(_kept(home, path.name, _rendered(pylock.entries(text, path.name, python))), python)
    found = lines.read(text, path.name)
    for option in found.ignored:
        say(f"{path.name}: {option} is not heeded: the packages come from the chosen mirrors")
    if all(line.is_pinned for line in found.lines) or resolve_from is None:
        return _once(_kept(home, path.name, _rendered([line.pinned() for line in found.lines])), python)
    kept = _place(home, path.name, f"{python} {text}")
    with _alone(kept):
        if again or not kept.exists():
            resolved = resolving.resolve([line.text for line in found.lines], python, resolve_from())
            entries = lines.heeded(lines.read(resolved, f"what uv made of {path.name}").lines, found.lines)
            _write(kept, _rendered(entries))
            say(f"{path.name}: resolved to {len(entries)} packages with hashes, which is kept (--rebuild: anew)")
    return Lock(path.name, kept, Lock.at(kept).sha256)


def warnings(own: Lock, python: str, machine: Machine) -> tuple[str, ...]:
    """What a person must know before a lock of their own is installed: whether its torch runs on this machine."""
    torch = next((pin for pin in own.pins(python) if pin.name == "torch"), None)
    if torch is None:
        return (f"{own.name} pins no torch for this machine: nothing can be generated with it",)
    ours = next(pin for pin in recipe.shipped_lock(_ON_PYPI).pins(python) if pin.name == "torch")
    build = _ON_PYPI.id if torch.version == ours.version else torch.version.partition("+")[2]
    known = any(row.id == build for row in BUILDS)
    return torch_builds.asked(machine, build).warnings if known else ()


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SetupError(f"{path} cannot be read: {reason}", "name a requirements.txt or a pylock.toml") from error


def _once(own: Lock, python: str) -> Lock:
    """The lock, if it has no package twice where it is used: nobody could say which one is meant."""
    found: dict[str, str] = {}
    for pin in own.pins(python):
        if pin.name in found:
            told = " and ".join(dict.fromkeys((found[pin.name], pin.version)))
            raise SetupError(f"{own.name}: {pin.name} is there twice for this machine ({told})", "leave one of them")
        found[pin.name] = pin.version
    return own


def _rendered(entries: list[Entry]) -> str:
    return "".join(map(str, sorted(entries, key=str)))


def _kept(home: Home, name: str, text: str) -> Lock:
    path = _place(home, name, text)
    with _alone(path):
        if not path.exists():
            _write(path, text)
    return Lock(name, path, Lock.at(path).sha256)


def _place(home: Home, name: str, content: str) -> Path:
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return home.config / "locks" / f"{Path(name).stem[:_STEM]}-{digest}.txt"


def _alone(path: Path) -> FileLock:
    """Two installations at once may want the same lock: one makes it, the other takes it."""
    return FileLock(writable(path.parent) / ".requirements.lock")


def _write(path: Path, text: str) -> None:
    try:
        atomic.replace(path, text.encode(), path.with_name(f".{path.name}.tmp"), private=True)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "make room, or make it writable") from error
