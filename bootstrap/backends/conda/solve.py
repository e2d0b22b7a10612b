"""From what is wanted to exactly which files: an environment.yml is solved once, and its list is kept.

The list (conda's explicit one, with sha256) lies in the user's configuration. As long as it is there nobody is asked
again, so that the same environment.yml makes the same environment; `upgrade` solves anew. Every hash that was ever
learnt is kept beside it, and checked ever after.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from bootstrap.backends.conda import packages
from bootstrap.backends.conda.family import Program
from bootstrap.backends.conda.packages import CondaPackage
from bootstrap.backends.conda.search import Question, Search
from bootstrap.errors import SetupError
from bootstrap.recipe import Lock
from bootstrap.state import Home, writable
from mirrors.http import HttpSettings

_LEARNT = "learnt.txt"


@dataclass(frozen=True)
class Solved:
    """The files that fulfil an environment.yml.

    Attributes:
        path: where the list is kept.
        text: what it says.
        packages: the same, dependencies first.
        notes: what a person should know of how it came about.
    """

    path: Path
    text: str
    packages: tuple[CondaPackage, ...]
    notes: tuple[str, ...] = ()

    @property
    def lock(self) -> Lock:
        """For the recipe."""
        return Lock(self.path.name, self.path, hashlib.sha256(self.text.encode()).hexdigest())


@dataclass(frozen=True)
class Manner:
    """How it is done.

    Attributes:
        upgrade: a new list in any case.
        offline: ask nobody.
        keep: whether a new list may be written.
    """

    upgrade: bool = False
    offline: bool = False
    keep: bool = True


def solved(
    question: Question,
    program: Program | None,
    http: HttpSettings,
    home: Home,
    manner: Manner,
    say: Callable[[str], None] = lambda _: None,
) -> Solved:
    """The list for a question: the one that was kept, or else a new one.

    Args:
        question: what is wanted.
        program: who solves; None: py-rattler.
        http: how mirrors are asked.
        home: where the lists are kept.
        manner: whether to ask, and to keep what is found.
        say: told what is being done.

    Raises:
        SetupError, MirrorError: there is no solution, or none that can be believed; says why.
    """
    directory = home.config / "conda"
    path = directory / f"{question.name}.txt"
    if path.exists() and not manner.upgrade:
        return _kept(path, question.subdir)
    if manner.offline:
        raise SetupError(
            f"{question.wanted.path} was not solved on this machine yet, which takes a channel's index",
            "install once with a network, or name a list that pins the packages (--environment LIST.txt)",
        )
    with _alone(home) as room:
        if path.exists() and not manner.upgrade:  # another process was faster
            return _kept(path, question.subdir)
        learnt = _learnt(directory / _LEARNT)
        found = Search(question, program, learnt, http, home.user_mirrors, room, say).run()
        text = packages.write(found.packages, f"{question.wanted.path.name} for {question.subdir}, solved by i2v-setup")
        if manner.keep:
            writable(directory)
            learnt |= {package.key: package for package in found.packages if package.key not in found.on_faith}
            _put(directory / _LEARNT, packages.write(learnt.values(), "every conda package whose sha256 was learnt"))
            _put(path, text)
    return Solved(path, text, found.packages, found.notes)


def _kept(path: Path, subdir: str) -> Solved:
    return Solved(path, packages.text_of(path), packages.read(path, subdir))


def _learnt(path: Path) -> dict[str, CondaPackage]:
    return {package.key: package for package in packages.of_explicit(path)} if path.exists() else {}


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@contextmanager
def _alone(home: Home) -> Iterator[Path]:
    """The only process that solves, with an empty directory; what a killed one left in it is gone."""
    room = home.cache / "conda" / "solve"
    with FileLock(writable(home.cache / "conda") / ".solve.lock"):
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)
