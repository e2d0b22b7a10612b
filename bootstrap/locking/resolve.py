"""From requirements to the entries of a lock: uv resolves, and the index says which wheels there are."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bootstrap import pip_settings, spawn
from bootstrap.errors import SetupError
from bootstrap.locking import platforms as kept
from bootstrap.locking.index import Index
from bootstrap.locking.text import Entry, compiled
from bootstrap.torch_builds import Platform

_PYTHON = "3.11"  # the oldest that diffusers runs on


def resolve(
    requirements: Iterable[str], index: Index, platforms: Sequence[Platform], preferred: Iterable[str] = ()
) -> list[Entry]:
    """The entries for requirements and all that those require, for every Python of the platforms.

    Args:
        requirements: as lines.
        index: where the wheels are.
        platforms: what the lock is for.
        preferred: versions as lines, which are taken where they suit; else the newest ones are.

    Raises:
        SetupError: uv found no solution, or a package has no wheel for some platform.
    """
    found = compiled(_compile("\n".join(requirements), "\n".join(preferred)))
    with ThreadPoolExecutor(4) as pool:
        entries = pool.map(lambda pair: _entry(pair[0], pair[1], index, platforms), found)
        return [entry for entry in entries if entry is not None]


def _entry(
    requirement: Requirement, allowed: frozenset[str], index: Index, platforms: Sequence[Platform]
) -> Entry | None:
    here = kept.where(requirement.marker, platforms)
    if not here:
        return None
    listed = index.wheels(canonicalize_name(requirement.name))
    wheels = {name: sha256 for name, sha256 in listed.items() if sha256 in allowed and kept.fits(name, here)}
    if not wheels:
        raise SetupError(f"{requirement} has no wheel for {here[0].system} on {here[0].arch}")
    return Entry(requirement, wheels)


def _compile(requirements: str, preferred: str) -> str:
    settings = pip_settings.read()
    env = {"UV_DEFAULT_INDEX": settings.index_url} if settings.index_url else {}
    with tempfile.TemporaryDirectory() as directory:
        given, lock = Path(directory) / "requirements.in", Path(directory) / "lock.txt"
        given.write_text(requirements, encoding="utf-8")
        lock.write_text(preferred, encoding="utf-8")
        command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-config", "--universal", "--generate-hashes"]
        command += ["--python-version", _PYTHON, "--python", sys.executable, "--no-header", "--no-annotate"]
        command += [str(given), "-o", str(lock)]
        done = spawn.run(command, env=env)
        if done.code != 0:
            raise SetupError(f"uv could not resolve the requirements: {done.output}")
        return lock.read_text(encoding="utf-8")
