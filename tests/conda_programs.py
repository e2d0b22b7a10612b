"""The real conda, mamba and micromamba, as far as they can be had.

conda is on the package index only inside conda-lock, under another name; here it gets its own back. Its solver there is
the classic one. mamba and micromamba are on no index that tests can reach, so those that are installed are used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_VENDORED = "conda_lock._vendor.conda"
# The versions are free: what is tested is that our command lines fit, today's conda and tomorrow's.
_NEEDED = (
    "conda-lock==4.0.3",
    "archspec",
    "boltons",
    "conda-package-handling",
    "conda-package-streaming",
    "distro",
    "frozendict",
    "jsonpatch",
    "packaging",
    "platformdirs",
    "pluggy",
    "pycosat",
    "requests",
    "ruamel.yaml",
    "setuptools<81",
    "tqdm",
    "truststore",
    "zstandard",
)
_LAUNCHER = """#!{python}
import sys
from conda.cli.main import main
sys.exit(main())
"""


class CannotBeHad(Exception):
    """The package index does not have what it takes."""


def conda_from_index(directory: Path) -> Path:
    """An installation of conda for a test; the directory that its program lies in. Skips where it cannot be had."""
    try:
        return made_conda(directory)
    except CannotBeHad as problem:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(problem))


def made_conda(directory: Path) -> Path:
    """An installation of conda with the classic solver; the directory that its program lies in.

    Raises:
        CannotBeHad: from the package index.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    python = directory / "bin" / "python"
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *_NEEDED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBeHad(f"conda cannot be had from the package index: {done.stderr.strip().splitlines()[-1]}")
    (packages,) = (directory / "lib").glob("python*/site-packages")
    shutil.copytree(packages.joinpath(*_VENDORED.split(".")), packages / "conda")
    for path in (packages / "conda").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if _VENDORED in text:
            path.write_text(text.replace(_VENDORED, "conda"), encoding="utf-8")
    (directory / ".condarc").write_text("solver: classic\n", encoding="utf-8")
    programs = directory / "programs"
    programs.mkdir()
    (programs / "conda").write_text(_LAUNCHER.format(python=python), encoding="utf-8")
    (programs / "conda").chmod(0o755)
    return programs


def installed(name: str) -> Path:
    """The directory that an installed program lies in; skips where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed, and the package index does not have it")
    return Path(path).parent
