"""Where the tool keeps its things: environments, weights, journals, reports, logs. Creates directories, nothing else.

`I2V_SETUP_HOME` puts everything below one directory (a larger or faster disk, a test). Otherwise the system's usual
places are used (on Linux the XDG ones), but for what is large: where that lies was decided at the first installation
(see `bootstrap.placement`), and is read here.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from bootstrap import bounded
from bootstrap.errors import SetupError

_APP = "i2v-setup"
NAME = "I2V_SETUP_HOME"
_PATIENCE = 5.0  # seconds for a disk that another machine has, or that sleeps


@dataclass(frozen=True)
class Home:
    """The directories of one user's installation."""

    data: Path
    cache: Path
    state: Path
    config: Path

    @property
    def environments(self) -> Path:
        """One directory per generation."""
        return self.data / "envs"

    @property
    def current(self) -> Path:
        """The symlink to the generation in use."""
        return self.data / "current"

    @property
    def store(self) -> Path:
        """Files by their sha256."""
        return self.cache / "store"

    @property
    def models(self) -> Path:
        """One directory per model, made of links into the store. On the same disk as the store."""
        return self.cache / "models"

    @property
    def deployments(self) -> Path:
        """The timing reports."""
        return self.state / "deployments"

    @property
    def journal(self) -> Path:
        """What was written into files of the user, with the bytes that were there before."""
        return self.state / "journal"

    @property
    def server(self) -> Path:
        """Jobs and videos of the local server."""
        return self.state / "server"

    @property
    def logs(self) -> Path:
        """What the local server has logged."""
        return self.state / "logs"

    @property
    def running(self) -> Path:
        """Which servers were started, a note for each."""
        return self.state / "running"

    @property
    def service_key(self) -> Path:
        """The API key of the installed service, if the file exists; for its owner only."""
        return self.config / "service.env"

    @property
    def weights_lock(self) -> Path:
        """What was learnt of models' files from where they are published, if the file exists."""
        return self.config / "weights-lock.json"

    @property
    def place(self) -> Path:
        """Where what is large lies, as it was decided, if the file exists."""
        return self.config / "place.json"

    @property
    def user_mirrors(self) -> Path:
        """The user's own mirrors, if the file exists."""
        return self.config / "mirrors.yaml"


@dataclass(frozen=True)
class Decided:
    """What the first installation decided: the directories for what is large, and why."""

    data: Path
    cache: Path
    reason: str


def home() -> Home:
    """The directories in force; nothing is created.

    Raises:
        SetupError: the disk that what is large was put on is not there or hangs, or I2V_SETUP_HOME is no path.
    """
    root = os.environ.get(NAME)
    if root:
        try:
            base = Path(root).expanduser().absolute()
        except RuntimeError as error:  # ~nobody
            raise SetupError(f"{NAME} is {root}: {error}", "set it to a directory that you may write") from error
        return Home(base, base / "cache", base / "state", base / "config")
    dirs = platformdirs.PlatformDirs(_APP, appauthor=False)
    usual = Home(dirs.user_data_path, dirs.user_cache_path, dirs.user_state_path, dirs.user_config_path)
    decided = read_place(usual.place)
    if decided is None:
        return usual
    there = decided.data == usual.data or bounded.gather({"": decided.data.is_dir}, _PATIENCE).get("")
    if not there:
        raise SetupError(
            f"{decided.data}, where environments and models were put, is not there, or does not answer",
            f"mount that disk; or, to begin anew, remove {usual.place}",
        )
    return replace(usual, data=decided.data, cache=decided.cache)


def read_place(path: Path) -> Decided | None:
    """What was decided; None if nothing was.

    Raises:
        SetupError: the file cannot be read or understood.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Decided(Path(told["data"]), Path(told["cache"]), str(told["reason"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{path} cannot be read: {error}", "mend it, or remove it to decide anew") from error


def writable(directory: Path) -> Path:
    """The directory, made if it was missing.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"{directory} cannot be written: {error.strerror}",
            "set I2V_SETUP_HOME to a directory that you may write",
        ) from error
    if not os.access(directory, os.W_OK):
        raise SetupError(f"{directory} is read-only", "set I2V_SETUP_HOME to a directory that you may write")
    return directory
