"""Resolves requirements without versions or hashes: by uv, against one index, for one Python on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bootstrap.backends import uv
from bootstrap.errors import SetupError
from bootstrap.packages import PackageSources


def resolve(lines: Sequence[str], python: str, sources: PackageSources) -> str:
    """The lines of a lock, with the hashes that the index says. Wheels only: nothing of it is run here.

    Raises:
        SetupError: uv finds no solution.
    """
    with tempfile.TemporaryDirectory() as directory:
        given, config = Path(directory) / "requirements.in", Path(directory) / "uv.toml"
        given.write_text("\n".join(lines), encoding="utf-8")
        # The indexes go in by file: their addresses may have passwords in them.
        config.write_text(sources.config_files()["uv.toml"], encoding="utf-8")
        lock = Path(directory) / "lock.txt"
        arguments = ["pip", "compile", "--quiet", "--config-file", str(config), "--generate-hashes", "-o", str(lock)]
        arguments += ["--only-binary", ":all:", "--no-header", "--no-annotate", str(given)]
        # Without an interpreter that is here uv would download one of that version first, and never use it.
        arguments += ["--python-version", python, "--python", sys.executable]
        done = uv.run(arguments, sources.environ())
        if done.code != 0:
            told = uv.reason(done.output)
            raise SetupError(f"the requirements could not be resolved: {told}", "mend them, or choose another --mirror")
        return lock.read_text(encoding="utf-8")
