"""Locks of builds whose hashes are not shipped: learnt from PyTorch's own index at the first use, checked ever after.

What was learnt stands in the user's configuration, as a whole lock for people to read and to copy to a machine that
cannot reach that index. A mirror never teaches a hash. What was learnt once is never replaced: where other bytes are
published under the same name, they are refused like any wrong bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bootstrap import atomic, recipe
from bootstrap.errors import SetupError
from bootstrap.locking.platforms import fits
from bootstrap.locking.text import Entry
from bootstrap.recipe import Lock
from bootstrap.state import Home, writable
from bootstrap.torch_builds import TorchBuild
from mirrors import catalogue, index
from mirrors import lock as locks
from mirrors.catalogue import Mirror
from mirrors.errors import NoTorch, Unreachable
from mirrors.http import HttpSettings
from mirrors.index import NotAnIndex
from mirrors.urls import shown

_PAGE_SECONDS = 15.0


def lock(
    home: Home,
    build: TorchBuild,
    http: HttpSettings | None,
    say: Callable[[str], None],
    *,
    upstream: Mirror | None = None,
) -> Lock:
    """The lock of a build: the shipped one, or the user's, with what the shipped one lacks.

    Args:
        home: where the user's locks are.
        build: the build.
        http: how to ask; None: nobody may be asked.
        say: told what was learnt.
        upstream: where PyTorch publishes; None: as it stands in the catalogue, whatever the user's own one says.

    Raises:
        NoTorch: something is to be learnt, and the index cannot be asked.
        SetupError: the user's lock cannot be read or written.
    """
    shipped = recipe.shipped_lock(build)
    text = shipped.path.read_text(encoding="utf-8")
    if locks.TO_LEARN not in text:
        return shipped
    path = home.config / "locks" / build.lock
    with FileLock(writable(path.parent) / f".{path.name}.lock"):
        known, learnt = _known(path), 0
        for requirement in locks.to_learn(shipped.path):
            entry = known.get((canonicalize_name(requirement.name), _version(requirement)))
            if entry is None:
                entry = _learn(requirement, build, http, upstream or catalogue.find("upstream", "pytorch"))
                learnt += len(entry.wheels)
            text = text.replace(
                f"{locks.TO_LEARN}{_line(requirement)}\n", str(Entry(requirement, entry.wheels, entry.hashes))
            )
        if learnt or not path.exists() or path.read_text(encoding="utf-8") != text:
            _write(path, text)
    if learnt:
        say(f"learnt the sha256 of {learnt} wheels of {build.title} from PyTorch's own index; checked from now on")
    return Lock.at(path)


def _known(path: Path) -> dict[tuple[str, str], Entry]:
    """What the user's lock has, by name and version."""
    if not path.exists():
        return {}
    return {
        (pin.name, pin.version): Entry(Requirement(f"{pin.name}=={pin.version}"), dict(pin.names), pin.sha256s)
        for pin in locks.read(path, {"sys_platform": "linux", "platform_machine": "x86_64"})
    }


def _learn(requirement: Requirement, build: TorchBuild, http: HttpSettings | None, upstream: Mirror) -> Entry:
    where, name = catalogue.with_variant(upstream, build.id), canonicalize_name(requirement.name)
    what = f"the sha256 of {name} {_version(requirement)} stands in no lock yet, and PyTorch's own index"
    hint = "choose another build with --torch, or copy the lock from a machine that has it: see the README"
    if http is None:
        raise NoTorch(f"{what} may not be asked", hint)
    try:
        page = index.get_page(where, name, http, _PAGE_SECONDS)
        prefix = f"{name.replace('-', '_')}-{_version(requirement)}-"
        listed = index.files(page, name, lambda filename: filename.startswith(prefix))
    except (Unreachable, NotAnIndex) as error:
        raise NoTorch(f"{what} {error.reason} ({shown(where.url)})", hint) from error
    wheels = {file.filename: file.sha256 for file in listed if file.sha256 and fits(file.filename, build.platforms)}
    if not wheels:
        raise NoTorch(f"{what} lists no wheel of it with a sha256 ({shown(where.url)})", hint)
    return Entry(requirement, wheels)


def _version(requirement: Requirement) -> str:
    return next(iter(requirement.specifier)).version


def _line(requirement: Requirement) -> str:
    return str(Entry(requirement, {})).removeprefix(locks.TO_LEARN).rstrip("\n")


def _write(path: Path, text: str) -> None:
    try:
        atomic.replace(path, text.encode(), path.with_name(f".{path.name}.tmp"), private=True)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "make room, or make it writable") from error
