"""How long an installation takes: as this tool does it, bare uv, and pip, in turn.

The wheels are those of the tool's own CPU lock, served by nginx. Cold: an empty cache of uv's, an empty store, an empty
environment, all in the directory for temporary files (TMPDIR); bare uv gets a lock with the addresses, and pip a list
of them, which is the least that each can do. Once as fast as the machine can, where nothing but the processor is the
limit, and over lines of 20 and 50 MB/s. Warm: a second environment from the same lock, on the same file system. No-op:
the whole command where everything is there, against uv's own no-op.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from urllib.parse import quote

import uv as uv_binary
from packaging.utils import parse_wheel_filename

from benchmarks.harness import Row, alternate, main
from benchmarks.link import Link
from benchmarks.nginx import Nginx
from bootstrap import recipe, torch_builds, wheels
from bootstrap.backends import uv
from bootstrap.packages import PackageSources
from bootstrap.state import Home
from mirrors import pylock
from mirrors.digest import sha256_of
from mirrors.fetch import Artifact, Downloads
from mirrors.http import HttpSettings
from mirrors.lock import Pin
from mirrors.resolve import Wheel
from mirrors.store import Store
from mirrors.tags import supported

_LINKS = (20, 50)  # MB/s of the line
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Fresh:
    """One run's own directories, all on the same disk."""

    root: Path

    @property
    def home(self) -> Home:
        """Ours."""
        return Home(self.root, self.root, self.root, self.root)

    @property
    def env(self) -> dict[str, str]:
        """What uv needs to know of them."""
        return {"UV_CACHE_DIR": str(self.root / "cache")}

    @property
    def python(self) -> Path:
        """The interpreter of the empty environment."""
        return self.root / "env" / "bin" / "python"

    def downloads(self) -> Downloads:
        """Fetches into an empty store."""
        return Downloads(Store(self.home.store), HttpSettings())

    def empty(self) -> None:
        """An empty environment, in place of the one that may be there."""
        shutil.rmtree(self.root / "env", ignore_errors=True)
        uv.create(self.root / "env", sys.executable, self.env)


Installer = Callable[[Sequence[Wheel], Fresh], None]


def gateway(wheels: Sequence[Wheel], fresh: Fresh) -> None:
    """As the tool installs."""
    with fresh.downloads() as downloads:
        uv.install(fresh.python, wheels, downloads, fresh.env, lambda _: None)


def wheelhouse(wheels: Sequence[Wheel], fresh: Fresh) -> None:
    """First all files, then uv."""
    house = fresh.root / "wheelhouse"
    house.mkdir()
    with fresh.downloads() as downloads:
        coming = [(wheel, downloads.want(wheel.artifact, wheel.urls)) for wheel in wheels]
        for wheel, download in coming:
            (house / wheel.filename).hardlink_to(download.result().path)
        local = [replace(wheel, urls=(), path=house / wheel.filename) for wheel in wheels]
        uv.install(fresh.python, local, downloads, fresh.env, lambda _: None)


def bare(wheels: Sequence[Wheel], fresh: Fresh) -> None:
    """Only uv, from the first source."""
    lock = fresh.root / "pylock.toml"
    addresses = {wheel.filename: wheel.urls[0] for wheel in wheels}
    lock.write_text(pylock.text(wheels, addresses.__getitem__), encoding="utf-8")
    command = [uv_binary.find_uv_bin(), "pip", "sync", "--quiet", "--no-config", "--preview-features", "pylock"]
    command += ["--python", str(fresh.python), "--cache-dir", fresh.env["UV_CACHE_DIR"], str(lock)]
    subprocess.run(command, check=True)


def pip(wheels: Sequence[Wheel], fresh: Fresh) -> None:
    """Pip from the first source, without compiling to bytecode."""
    listed = fresh.root / "requirements.txt"
    lines = (f"{wheel.project} @ {wheel.urls[0]}#sha256={wheel.artifact.sha256}\n" for wheel in wheels)
    listed.write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(fresh.python), "install", "--quiet", "--no-compile"]
    command += ["--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--no-index", "-r", str(listed)]
    subprocess.run(command, check=True)


def measure(quick: bool) -> Sequence[Row]:
    """All cases; the quick ones leave torch and the slow lines out."""
    runs = 2 if quick else 5
    with tempfile.TemporaryDirectory(prefix="i2v-benchmark-") as directory, ExitStack() as stack:
        files, room = Path(directory) / "files", Path(directory)
        download(files)
        rows = noop(room, runs)
        if quick:
            max(files.iterdir(), key=lambda path: path.stat().st_size).unlink()  # torch: two thirds of all bytes
        server = stack.enter_context(Nginx(files))
        rows += warm(locked(files, server.url), room, max(runs, 5))
        rows += cold("as fast as it goes", locked(files, server.url), room, runs)
        for rate in () if quick else _LINKS:
            link = stack.enter_context(Link(server.url, rate * 1e6))
            rows += cold(f"over {rate} MB/s", locked(files, link.url), room, runs)
        return rows


def cold(case: str, wheels: Sequence[Wheel], directory: Path, runs: int) -> list[Row]:
    """The time of each way relative to bare uv's, and pip's relative to ours."""
    ours, house, uvs, pips = medians(runs, wheels, Fresh(directory / "run"), gateway, wheelhouse, bare, pip, cold=True)
    against = f"bare uv pip sync: {uvs:.2f} s"
    return [
        Row(f"cold, {case}: ours", ours / uvs, "x", "at most 1.1", ours / uvs <= 1.1, against),
        Row(f"cold, {case}: wheelhouse first", house / uvs, "x", "-", None, against),
        Row(
            f"cold, {case}: pip against ours",
            pips / ours,
            "x",
            "at least 2",
            pips / ours >= 2,
            f"pip install --no-compile: {pips:.2f} s, ours {ours:.2f} s",
        ),
    ]


def warm(served: Sequence[Wheel], directory: Path, runs: int) -> list[Row]:
    """A second environment: the lock is read, its wheels are found and linked; bare uv reads its own lock."""
    fresh = Fresh(directory / "warm")
    fresh.empty()
    gateway(served, fresh)
    tags, pins = supported(_PYTHON), [Pin(w.project, w.version, frozenset({w.artifact.sha256})) for w in served]
    wheels.learn(fresh.home, tags, served)
    nobody = PackageSources("nobody", "https://index.invalid/simple")

    def ours(_: Sequence[Wheel], fresh: Fresh) -> None:
        gateway(wheels.find(fresh.home, pins, tags, nobody, HttpSettings()), fresh)

    mine, theirs = medians(runs, served, fresh, ours, bare)
    name = "second environment from the same lock"
    shutil.rmtree(fresh.root)
    return [Row(name, mine, "s", "at most 1", mine <= 1, f"bare uv pip sync: {theirs:.2f} s")]


def noop(directory: Path, runs: int) -> list[Row]:
    """The whole command where there is nothing to do."""
    environment = {**os.environ, "I2V_SETUP_HOME": str(directory / "home")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for a user, who does not compile us anew each time
    install = [sys.executable, "-m", "bootstrap.cli", "--quiet", "install", "--torch", "cpu", "--yes"]
    subprocess.run(install, env=environment, check=True)
    python = directory / "home" / "current" / "bin" / "python"
    sync = [uv_binary.find_uv_bin(), "pip", "sync", "--quiet", "--no-config", "--python", str(python)]
    sync.append(str(recipe.lock_of(torch_builds.find("cpu"))))
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    sync += [argument for link in links for argument in ("--find-links", link)]
    mine, theirs = alternate(
        max(runs, 5),
        lambda: subprocess.run(install, env=environment, check=True),
        lambda: subprocess.run(sync, check=True, capture_output=True),
    )
    return [Row("no-op install", mine, "s", "at most 1", mine <= 1, f"uv pip sync of the same lock: {theirs:.2f} s")]


def medians(
    runs: int, wheels: Sequence[Wheel], fresh: Fresh, *installers: Installer, cold: bool = False
) -> list[float]:
    """Median seconds of each, in turn, after one uncounted round. Making and removing what is theirs is not counted.

    With `cold` not only the environment goes after each, but store and cache as well.
    """
    seconds: list[list[float]] = [[] for _ in installers]
    for counted in range(-1, runs):
        for kept, install in zip(seconds, installers, strict=True):
            fresh.empty()
            began = time.perf_counter()
            install(wheels, fresh)
            if counted >= 0:
                kept.append(time.perf_counter() - began)
            if cold:
                shutil.rmtree(fresh.root)
    return [statistics.median(kept) for kept in seconds]


def download(directory: Path) -> None:
    """The wheels of the lock, by pip with the user's own settings."""
    lock = recipe.lock_of(torch_builds.find("cpu"))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory)]
    subprocess.run([*command, "-r", str(lock)], check=True, stderr=subprocess.DEVNULL)


def locked(files: Path, server: str) -> list[Wheel]:
    """The files of a directory as wheels of a lock that the server has."""
    found = []
    for path in sorted(files.iterdir()):
        project, version, *_ = parse_wheel_filename(path.name)
        artifact = Artifact(path.name, path.stat().st_size, sha256_of(path))
        found.append(Wheel(project, str(version), path.name, artifact, (f"{server}/{quote(path.name)}",)))
    return found


if __name__ == "__main__":
    main(measure, __doc__ or "")
