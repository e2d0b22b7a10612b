"""How long an installation takes: through the gateway, from a wheelhouse that is filled first, and bare uv.

The wheels are those of the tool's own CPU lock, served by nginx. All three start from nothing: an empty cache of uv's,
an empty store, an empty environment, all in the directory for temporary files (TMPDIR). Bare uv gets a lock with the
addresses, which is the least that it can do.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

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

from benchmarks.harness import Row, main
from benchmarks.nginx import Nginx
from bootstrap import generations, torch_builds
from bootstrap.backends import uv
from mirrors import pylock
from mirrors.digest import sha256_of
from mirrors.fetch import Artifact, Downloads
from mirrors.http import HttpSettings
from mirrors.resolve import Wheel
from mirrors.store import Store

_LIMIT = 20_000_000  # bytes/s of a connection, where the sources are slow


@dataclass(frozen=True)
class Fresh:
    """One run's own directories, all on the same disk."""

    root: Path

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
        return Downloads(Store(self.root / "store"), HttpSettings())


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
        local = [replace(wheel, urls=((house / wheel.filename).as_uri(),)) for wheel in wheels]
        uv.install(fresh.python, local, downloads, fresh.env, lambda _: None)


def bare(wheels: Sequence[Wheel], fresh: Fresh) -> None:
    """Only uv, from the first source."""
    lock = fresh.root / "pylock.toml"
    addresses = {wheel.filename: wheel.urls[0] for wheel in wheels}
    lock.write_text(pylock.text(wheels, addresses.__getitem__), encoding="utf-8")
    command = [uv_binary.find_uv_bin(), "pip", "sync", "--quiet", "--no-config", "--preview-features", "pylock"]
    command += ["--python", str(fresh.python), "--cache-dir", fresh.env["UV_CACHE_DIR"], str(lock)]
    subprocess.run(command, check=True)


def measure(quick: bool) -> Sequence[Row]:
    """Both cases; the bar is for one good source."""
    with tempfile.TemporaryDirectory(prefix="i2v-benchmark-") as directory, ExitStack() as servers:
        files = Path(directory) / "files"
        download(files)
        if quick:
            max(files.iterdir(), key=lambda path: path.stat().st_size).unlink()  # torch: two thirds of all bytes
        fast = [servers.enter_context(Nginx(files))]
        slow = [servers.enter_context(Nginx(files, _LIMIT)) for _ in range(3)]
        runs = 2 if quick else 5
        return [
            *rows("one good source", locked(files, fast), Path(directory), runs, bar=1.1),
            *rows("three sources of 20 MB/s a connection", locked(files, slow), Path(directory), runs, bar=None),
        ]


def rows(case: str, wheels: Sequence[Wheel], directory: Path, runs: int, bar: float | None) -> list[Row]:
    """The time of each way relative to bare uv's."""
    ours, house, peer = medians(runs, wheels, directory, gateway, wheelhouse, bare)
    against = f"bare uv pip sync: {peer:.2f} s"
    verdict = ours / peer <= bar if bar else None
    return [
        Row(f"{case}: gateway", ours / peer, "x", f"at most {bar}" if bar else "-", verdict, against),
        Row(f"{case}: wheelhouse", house / peer, "x", "-", None, against),
    ]


def medians(runs: int, wheels: Sequence[Wheel], directory: Path, *installers: Installer) -> list[float]:
    """Median seconds of each, in turn, after one uncounted round. Making and removing what is theirs is not counted."""
    seconds: list[list[float]] = [[] for _ in installers]
    for counted in range(-1, runs):
        for kept, install in zip(seconds, installers, strict=True):
            fresh = Fresh(directory / "run")
            uv.create(fresh.root / "env", sys.executable, fresh.env)
            began = time.perf_counter()
            install(wheels, fresh)
            if counted >= 0:
                kept.append(time.perf_counter() - began)
            shutil.rmtree(fresh.root)
    return [statistics.median(kept) for kept in seconds]


def download(directory: Path) -> None:
    """The wheels of the lock, by pip with the user's own settings."""
    lock = generations.lock_of(torch_builds.find("cpu"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(directory),
        "-r",
        str(lock),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def locked(files: Path, servers: Sequence[Nginx]) -> list[Wheel]:
    """The files of a directory as wheels of a lock that all the servers have."""
    wheels = []
    for path in sorted(files.iterdir()):
        project, version, *_ = parse_wheel_filename(path.name)
        artifact = Artifact(path.name, path.stat().st_size, sha256_of(path))
        urls = tuple(f"{server.url}/{quote(path.name)}" for server in servers)
        wheels.append(Wheel(project, str(version), path.name, artifact, urls))
    return wheels


if __name__ == "__main__":
    main(measure, __doc__ or "")
