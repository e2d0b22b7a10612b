"""Environments as generations: named by what went into them, built aside, never changed once they are whole.

A generation is a directory `envs/<build>-py<version>-<digest>`: a virtual environment with its own pip and uv
configuration, the lock that it was made from, the `runtime/` folder under `app/`, and, once it was verified, the record
`generation.json`. A directory without that record is the rest of an interrupted build. One that is built anew although
it is there lies beside the old one, as `….2`, since somebody may work in that. Which one is in use: bootstrap.current.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

import runtime.models
from bootstrap import atomic, room, usage
from bootstrap.errors import SetupError
from bootstrap.recipe import Recipe
from bootstrap.state import Home
from mirrors.disk import sync_file_system
from runtime import __version__

RECORD = "generation.json"
RUNTIME = Path(runtime.models.__file__).parent


@dataclass(frozen=True)
class Generation:
    """An environment: where it is, and what went into it.

    Attributes:
        path: its directory.
        build: of PyTorch.
        python: its version, "3.11".
        lock_sha256: of the lock's bytes.
        lock: the lock's name, for people.
        backend: what built it.
        tool: our version.
        made: when it was whole for the first time, in UTC, as ISO 8601 has it; empty: it is not.
        verified: when it was verified the last time.
        packages: how many there are in it.
        size: of its files, in bytes, those included that it shares with others.
    """

    path: Path
    build: str
    python: str
    lock_sha256: str
    lock: str = ""
    backend: str = "uv"
    tool: str = ""
    made: str = ""
    verified: str = ""
    packages: int = 0
    size: int = 0

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def stem(self) -> str:
        """What all generations from the same recipe have in common."""
        return re.sub(r"\.\d+\Z", "", self.name)

    @property
    def python_path(self) -> Path:
        """The environment's interpreter."""
        return self.path / "bin" / "python"

    @property
    def app(self) -> Path:
        """The directory that holds the `runtime` package."""
        return self.path / "app"

    @property
    def complete(self) -> bool:
        """Whether it was built to the end and verified, and its record and interpreter are still there."""
        return find(self.path) is not None

    def environ(self) -> dict[str, str]:
        """What a process of this environment gets in its environment."""
        # Bytecode is written even where the user's shell says otherwise: without it imports take twice as long.
        return {"PYTHONPATH": str(self.app), "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": ""}

    def installed(self) -> int:
        """How many packages are in it now, by their records."""
        return sum(1 for _ in self.path.glob("lib/python*/site-packages/*.dist-info"))


def of(home: Home, recipe: Recipe, *, anew: bool = False) -> Generation:
    """The generation that a recipe makes here: the one that is there, or one that is yet to be built.

    Its name is the digest of all that goes in. With `anew` it is to be built although it is there.
    """
    build, python, lock = recipe.build.id, recipe.python.version, recipe.lock.sha256
    parts = (lock, build, python, recipe.backend, platform.system(), platform.machine(), _tree_digest(RUNTIME))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    base = home.environments / f"{build}-py{python.replace('.', '')}-{digest}"
    twins = sorted((path for path in base.parent.glob(f"{base.name}*")), key=_number)
    whole = [found for path in twins if (found := find(path)) is not None]
    if whole and not anew:
        return whole[-1]
    taken = {found.path for found in whole} | {home.current.resolve()}
    last = max((_number(path) for path in twins if path in taken), default=0)
    path = base if last == 0 else base.with_name(f"{base.name}.{last + 1}")
    return Generation(path, build, python, lock, recipe.lock.name, recipe.backend, __version__)


def find(path: Path) -> Generation | None:
    """The generation in that directory; None where none is there that is whole."""
    try:
        data = json.loads((path / RECORD).read_text(encoding="utf-8"))
        known = {field.name for field in fields(Generation)} - {"path"}
        found = Generation(path, **{name: value for name, value in data.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return found if found.python_path.exists() else None


def every(home: Home) -> list[Generation]:
    """All that are whole, the oldest first."""
    found = (find(path) for path in directories(home))
    return sorted((one for one in found if one is not None), key=lambda one: (one.made, one.name))


def directories(home: Home) -> Iterator[Path]:
    """All directories of environments, whole or not."""
    for path in sorted(home.environments.glob("*")):
        if path.is_dir() and not path.is_symlink():
            yield path


def begin(generation: Generation) -> None:
    """Clear what an interrupted build of the same generation left.

    Raises:
        SetupError: something runs there.
    """
    if generation.path.exists():
        if processes := usage.processes(generation.path):
            runs = ", ".join(map(str, processes))
            raise SetupError(f"something runs in {generation.path}, which is not whole: {runs}", "end it first")
        shutil.rmtree(generation.path)
    generation.path.parent.mkdir(parents=True, exist_ok=True)


def add_runtime(generation: Generation) -> None:
    """Copy the `runtime` package into the generation, so that it stays as it was verified."""
    for path in _files(RUNTIME):
        target = generation.app / "runtime" / path.relative_to(RUNTIME)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def add_lock(generation: Generation, recipe: Recipe) -> None:
    """Copy the lock into the generation, so that one can see later what it was made from."""
    shutil.copyfile(recipe.lock.path, generation.path / f"lock{recipe.lock.path.suffix}")


def finish(generation: Generation) -> Generation:
    """Record that the generation is whole and was verified now."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    before = find(generation.path)
    if before is None:
        # The record makes the environment count as whole, so it must not be on disk before the files are: after a
        # power cut they might be there by their names, and empty. Nobody else has synced what the installers wrote.
        sync_file_system(generation.path)
        size = room.length(generation.path)
        before = replace(generation, made=now, packages=generation.installed(), size=size)
    done = replace(before, verified=now)
    text = json.dumps({**asdict(done), "path": str(done.path)}, indent=2)
    atomic.replace(done.path / RECORD, text.encode(), done.path / f".{RECORD}", private=False)
    return done


def remove(generation: Generation) -> None:
    """Remove a generation. It is gone at once; what a kill leaves of it counts as an interrupted build."""
    (generation.path / RECORD).unlink(missing_ok=True)
    shutil.rmtree(generation.path)


def give_up(generation: Generation) -> None:
    """Remove what was built so far of a generation that is not whole: the disk may be full."""
    if not generation.complete:
        shutil.rmtree(generation.path, ignore_errors=True)


def require_intact(generation: Generation) -> None:
    """A look that costs next to nothing: its interpreter is there, and as many packages as it was made with.

    Raises:
        SetupError: something is missing.
    """
    hint = "build it again: i2v-setup install --rebuild"
    if not generation.complete:
        raise SetupError(f"{generation.path} is not whole: its record or its interpreter is gone", hint)
    missing = generation.packages - generation.installed()
    if missing > 0:
        raise SetupError(f"{missing} of the {generation.packages} packages of {generation.name} are gone", hint)


def _number(path: Path) -> int:
    """Which one of its recipe's generations it is, counted from 1."""
    found = re.search(r"\.(\d+)\Z", path.name)
    return int(found[1]) if found else 1


def _tree_digest(root: Path) -> str:
    """The sha256 over names and contents of a package's files, without what Python compiled from them."""
    digest = hashlib.sha256()
    for path in _files(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    """A package's files, without what Python compiled from them."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
