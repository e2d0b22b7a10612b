"""What the real pip, uv and conda make of a configuration file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))

# The whole of conda, which PyPI has only inside conda-lock; of its dependencies what reading a .condarc takes.
_CONDA = """
conda-lock==4.0.3 --hash=sha256:c8b0719832a2a971feffebe702bb7ce6265494d610ca9d8813a6c12a26f9ae52
boltons==26.2.0 --hash=sha256:41942cbce440211bbcf2487ccdc356964ad674f95a01068b8a0dd7a1d1fed036
"""
_READ = """
import json, sys, types
package = types.ModuleType("conda_lock")  # not the package's own beginning, which imports all of conda-lock
package.__path__ = [sys.argv[1] + "/conda_lock"]
sys.modules["conda_lock"] = package
from conda_lock._vendor.conda.base.constants import SEARCH_PATH
from conda_lock._vendor.conda.base.context import context, reset_context
from conda_lock._vendor.conda.models.channel import Channel
found = []
for path in sys.argv[2:]:
    reset_context([path] if path != "as usual" else SEARCH_PATH)
    urls = {name: Channel(name).urls(with_credentials=True) for name in ("conda-forge", *context.channels)}
    found.append({"channels": context.channels, "urls": urls, "ssl_verify": context.ssl_verify})
print(json.dumps(found))
"""


def pip_settings(path: Path) -> dict[str, str]:
    """What pip reads in a pip.conf."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    nowhere = str(path.parent / "nowhere")
    environment |= {"PIP_CONFIG_FILE": str(path), "HOME": nowhere, "XDG_CONFIG_DIRS": nowhere}
    environment.pop("XDG_CONFIG_HOME", None)
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    return {key: value[1:-1].strip("\n") for key, _, value in (line.partition("=") for line in lines)}


def uv_indexes(path: Path) -> list[dict[str, str | None]]:
    """The indexes that uv takes from a uv.toml for `uv pip`, in its order, with what it says of each."""
    command = [UV, "--config-file", str(path), "pip", "compile", "--show-settings", "-"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, input="")
    assert done.returncode == 0, done.stderr
    section = done.stdout[done.stdout.index("index_locations: ") : done.stdout.index("flat_index: ")]
    fields = r'name: (?:None|Some\(\s*(?:IndexName\(\s*)?"(?P<name>[^"]*)").*?given: Some\(\s*"(?P<url>[^"]*)".*?'
    fields += r"\bexplicit: (?P<explicit>true|false).*?\bdefault: (?P<default>true|false).*?\bformat: (?P<format>\w+)"
    return [match.groupdict() for match in re.finditer(fields, section, re.DOTALL)]


class Conda:
    """conda's own code, without an installation of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        requirements = directory / "requirements.txt"
        requirements.write_text(_CONDA, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--quiet"]
        command += ["--require-hashes", "--target", str(directory), "-r", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            problem = f"conda's code cannot be had from the package index: {done.stderr.strip().splitlines()[-1]}"
            assert os.environ.get("CI") != "true", problem
            pytest.skip(problem)

    def reads(self, *paths: Path) -> list[dict[str, Any]]:
        """The channels of each .condarc, and the URLs of each channel and of conda-forge."""
        return self._read(paths[0].parent / "nowhere", *map(str, paths))

    def reads_for(self, home: Path) -> dict[str, Any]:
        """The same of all the files that conda reads for the user with that home."""
        return self._read(home, "as usual")[0]

    def _read(self, home: Path, *paths: str) -> list[dict[str, Any]]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONDA", "MAMBA"))}
        environment |= {"PYTHONPATH": str(self.directory), "HOME": str(home)}
        environment.pop("XDG_CONFIG_HOME", None)
        environment |= {"WHO": "me", "KEY": "secret", "PROXY": "http://proxy.example:1"}
        command = [sys.executable, "-c", _READ, str(self.directory), *paths]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found
