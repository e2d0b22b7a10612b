"""Environments as generations: named by what went into them, built aside, made current by moving one symlink.

A generation is a directory `envs/<build>-py<version>-<digest>`: a virtual environment with its own pip and uv
configuration, the `runtime/` folder under `app/`, and, once it was verified, the record `generation.json`. A directory
without that record is the rest of an interrupted build.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import runtime.models
from bootstrap.errors import SetupError
from bootstrap.state import Home
from bootstrap.torch_builds import TorchBuild

_RECORD = "generation.json"
RUNTIME = Path(runtime.models.__file__).parent


@dataclass(frozen=True)
class Generation:
    """An environment: where it is, and what went into it."""

    path: Path
    build: str
    python: str
    lock_sha256: str

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

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
        try:
            json.loads((self.path / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return self.python_path.exists()

    def environ(self) -> dict[str, str]:
        """What a process of this environment gets in its environment."""
        # Bytecode is written even where the user's shell says otherwise: without it imports take twice as long.
        return {"PYTHONPATH": str(self.app), "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": ""}


def lock_of(build: TorchBuild) -> Path:
    """The shipped lock that the build installs from."""
    return RUNTIME / "locks" / build.lock


def of(home: Home, build: TorchBuild, python: str) -> Generation:
    """The generation for a build and a Python version: its name is the digest of all that goes in."""
    lock_sha256 = hashlib.sha256(lock_of(build).read_bytes()).hexdigest()
    parts = (lock_sha256, build.id, python, platform.system(), platform.machine(), _tree_digest(RUNTIME))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    name = f"{build.id}-py{python.replace('.', '')}-{digest}"
    return Generation(home.environments / name, build.id, python, lock_sha256)


def begin(generation: Generation) -> None:
    """Clear what an interrupted build of the same generation left."""
    if generation.path.exists():
        shutil.rmtree(generation.path)
    generation.path.parent.mkdir(parents=True, exist_ok=True)


def add_runtime(generation: Generation) -> None:
    """Copy the `runtime` package into the generation, so that it stays as it was verified."""
    shutil.copytree(RUNTIME, generation.app / "runtime", ignore=shutil.ignore_patterns("__pycache__"))


def finish(generation: Generation) -> None:
    """Record that the generation is whole and verified."""
    record = {**asdict(generation), "path": str(generation.path)}
    temporary = generation.path / f".{_RECORD}"
    temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")
    temporary.replace(generation.path / _RECORD)


def make_current(home: Home, generation: Generation) -> None:
    """Move the symlink `current` to this generation, in one step."""
    temporary = home.current.with_name(f".current.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(generation.path, target_is_directory=True)
    temporary.replace(home.current)


def current(home: Home) -> Generation:
    """The generation in use.

    Raises:
        SetupError: nothing was installed yet, or the record is damaged.
    """
    record = home.current / _RECORD
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        return Generation(Path(data["path"]), data["build"], data["python"], data["lock_sha256"])
    except FileNotFoundError as error:
        raise SetupError("nothing is installed yet", "run `i2v-setup install --model demo --mirror auto`") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{record} cannot be read: {error}", "run `i2v-setup install` again") from error


def _tree_digest(root: Path) -> str:
    """The sha256 over names and contents of a package's files, without what Python compiled from them."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
