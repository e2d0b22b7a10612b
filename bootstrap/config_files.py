"""Which configuration files pip, uv, conda and mamba read, and what they heed above those. Reads and writes none.

The order is that of the tools' own documentation; of a user's several files the one is taken that wins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from bootstrap.errors import UsageProblem

NAMES = ("pip.conf", "uv.toml", ".condarc", ".mambarc")

# Variables that win over a file.
_STRONGER: Mapping[str, tuple[str, ...]] = {
    "pip.conf": ("PIP_INDEX_URL", "PIP_NO_INDEX"),
    "uv.toml": ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX", "UV_NO_CONFIG"),
    ".condarc": ("CONDA_CHANNELS",),
    ".mambarc": (),
}


def of_environment(directory: Path) -> dict[str, Path]:
    """The files in an environment's own directory.

    pip of that environment reads its file there by itself, conda and mamba do where the environment is activated as
    one of theirs, and uv where UV_CONFIG_FILE names it.
    """
    return {name: directory / name for name in NAMES}


def of_user(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> dict[str, Path]:
    """The files of the user who runs us, there or not.

    Raises:
        UsageProblem: pip is told to read none.
    """
    home = Path(environ.get("HOME") or Path.home())
    base = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        "pip.conf": _pip(environ, platform, home, base),
        "uv.toml": Path(environ.get("UV_CONFIG_FILE") or base / "uv" / "uv.toml"),
        ".condarc": Path(environ.get("CONDARC") or home / ".condarc"),
        ".mambarc": Path(environ.get("MAMBARC") or home / ".mambarc"),
    }


def stronger(name: str, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The variables that are set and win over what the file says."""
    return tuple(variable for variable in _STRONGER[name] if environ.get(variable))


def _pip(environ: Mapping[str, str], platform: str, home: Path, base: Path) -> Path:
    """The file that wins among pip's; its oldest place where only that has one."""
    if named := environ.get("PIP_CONFIG_FILE"):  # stands above the user's own, and switches those off
        if named == os.devnull:
            raise UsageProblem(f"PIP_CONFIG_FILE is {named}, so pip reads no file of yours", "unset it")
        return Path(named)
    usual = base / "pip" / "pip.conf"
    if platform == "darwin":
        own = home / "Library" / "Application Support" / "pip"
        usual = (own if own.is_dir() else home / ".config" / "pip") / "pip.conf"
    oldest = home / ".pip" / "pip.conf"
    return oldest if oldest.exists() and not usual.exists() else usual
