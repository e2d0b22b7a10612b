"""Where the tool keeps its things: environments, weights, journals and reports. Creates directories, nothing else.

`I2V_SETUP_HOME` puts everything below one directory (a larger or faster disk, a test). Otherwise the
system's usual places are used (on Linux the XDG ones).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from bootstrap.errors import SetupError

_APP = "i2v-setup"


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
    def user_mirrors(self) -> Path:
        """The user's own mirrors, if the file exists."""
        return self.config / "mirrors.yaml"


def home() -> Home:
    """The directories in force; nothing is created."""
    root = os.environ.get("I2V_SETUP_HOME")
    if root:
        try:
            base = Path(root).expanduser().absolute()
        except RuntimeError as error:  # ~nobody
            raise SetupError(
                f"I2V_SETUP_HOME is {root}: {error}", "set it to a directory that you may write"
            ) from error
        return Home(base, base / "cache", base / "state", base / "config")
    dirs = platformdirs.PlatformDirs(_APP, appauthor=False)
    return Home(dirs.user_data_path, dirs.user_cache_path, dirs.user_state_path, dirs.user_config_path)


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
