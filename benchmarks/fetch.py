"""The verified fetch: as fast as curl and aria2c from one good source, and what faults, kills and lies cost.

Throughput is measured against nginx, the rest against shaped mirrors on 127.0.0.1. What a fault costs is the time
beyond what the same mirrors would have needed at best: all of them until the fault, the sound ones from then on.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness import Row, alternate, main
from benchmarks.nginx import Nginx
from benchmarks.shaped import File, Shape, ShapedMirrors
from mirrors.fetch import CONNECTIONS, Artifact, fetch
from mirrors.fetching.schedule import PIECE_SECONDS
from mirrors.http import HttpSettings
from mirrors.store import Store

_FILE = File("demo-1.0-py3-none-any.whl", 8_000_000)
_RATE = 700_000  # bytes/s of a connection to a shaped mirror
_AT_ONCE = 4  # seeds
_FETCH = """
import sys
from pathlib import Path
from mirrors.fetch import CONNECTIONS, Artifact, fetch
from mirrors.http import HttpSettings
from mirrors.store import Store
size, sha256, root, *urls = sys.argv[1:]
print(fetch(Artifact("file", int(size), sha256), urls, Store(Path(root)), HttpSettings()).bytes_fetched)
"""


def measure(quick: bool) -> list[Row]:
    """All rows; `quick` within a minute."""
    rows = _throughput(1 << 29 if quick else 1 << 30, 3 if quick else 7)
    rows += _faults(8 if quick else 100)
    rows += _processes(2 if quick else 5)
    return rows


# One good source


def _throughput(size: int, runs: int) -> list[Row]:
    names = {"curl": "curl, not verifying", "aria2c": "aria2c -x4 --checksum"}
    if shutil.which("nginx") is None:
        return [_throughput_row(peer, None) for peer in names.values()]
    with _room() as room, Nginx(room) as nginx:
        sha256 = _random_file(room / "file", size)
        url, target = f"{nginx.url}/file", room / "target"
        checksum = f"--checksum=sha-256={sha256}"
        peers = {
            "curl": ["curl", "-s", "-o", str(target), url],
            "aria2c": ["aria2c", "-q", "-x4", "-s4", checksum, "-d", str(room), "-o", target.name, url],
        }

        def ours() -> None:
            _delete(room / "store")
            fetch(Artifact("file", size, sha256), [url], Store(room / "store"), HttpSettings())

        there = [name for name in peers if shutil.which(name)]
        seconds = alternate(runs, ours, *(_client(peers[name], target) for name in there))
        ratios = {name: needed / seconds[0] for name, needed in zip(there, seconds[1:], strict=True)}
    return [_throughput_row(names[name], ratios.get(name)) for name in peers]


def _throughput_row(peer: str, ratio: float | None) -> Row:
    return Row("throughput of one good source", ratio, "x", ">= 0.8 x", None if ratio is None else ratio >= 0.8, peer)


def _client(command: Sequence[str], target: Path) -> Callable[[], None]:
    def run() -> None:
        target.unlink(missing_ok=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return run


def _random_file(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size >> 20):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


# A source that dies, stalls, lies or crawls


@dataclass(frozen=True)
class _Outcome:
    """What became of one seed: seconds beyond the best that was possible, and bytes beyond those of the file."""

    seconds: float
    bytes: int
    right: bool


def _faults(seeds: int) -> list[Row]:
    dice = random.Random(0)
    good = Shape(connection_rate=_RATE)
    points = [dice.randrange(_FILE.size // 2) for _ in range(seeds)]
    broken = [Shape(connection_rate=_RATE, fault=dice.choice(("dies", "stalls")), after=point) for point in points]
    lying = [Shape(connection_rate=_RATE, fault="tamper")]
    crawling = [Shape(connection_rate=_RATE / 100)]
    with ShapedMirrors([good, good, *lying, *crawling, *broken], [_FILE]) as servers:

        def one(number: int, partner: int = 0) -> _Outcome:
            return _with_one_bad(servers, number, partner)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            died = list(pool.map(one, range(4, 4 + seeds)))
        lied, crawled = [one(2) for _ in range(3)], [one(3) for _ in range(3)]
    chunk = PIECE_SECONDS * _RATE
    worst, twice = max(one.seconds for one in died), max(one.bytes for one in died) / chunk
    wrong = sum(not one.right for one in (*died, *lied, *crawled))
    end = max(one.seconds for one in crawled)
    extra = max(one.bytes for one in lied) / _FILE.size
    name = f"a mirror dies or stalls, {seeds} seeds"
    return [
        Row(f"{name}: time lost at worst", worst, "s", "<= 5 s", worst <= 5, "the sound mirrors from then on"),
        Row(f"{name}: fetched twice at worst", twice, "chunks", "<= 1", twice <= 1, "no fault"),
        Row("incomplete or wrong files", wrong, "files", "none", wrong == 0, "the sha256"),
        Row("a mirror lies: fetched in vain at worst", extra, "x", "<= 2.5 x", extra <= 2.5, "the file's size"),
        Row("a mirror crawls: the end comes later by", end, "s", "<= 1 s", end <= 1, "the other mirror alone"),
    ]


def _with_one_bad(servers: ShapedMirrors, number: int, partner: int) -> _Outcome:
    artifact = Artifact(_FILE.name, _FILE.size, servers.sha256[_FILE.name])
    urls = [servers.url(one, _FILE.name) for one in (number, partner)]
    with _room() as room:
        began = time.monotonic()
        fetched = fetch(artifact, urls, Store(room), HttpSettings())
        seconds = time.monotonic() - began
        right = hashlib.sha256(fetched.path.read_bytes()).hexdigest() == artifact.sha256
    given = fetched.per_source.get(servers.netloc(number), 0)
    rate = CONNECTIONS * _RATE
    best = max(_FILE.size / 2, _FILE.size - given) / rate
    return _Outcome(seconds - best, fetched.bytes_fetched - _FILE.size, right)


# Kills, and two at once


def _processes(runs: int) -> list[Row]:
    with ShapedMirrors([Shape(connection_rate=_RATE)] * 2, [_FILE]) as servers:
        again = max(_killed_at_half(servers) for _ in range(runs))
        both = max(_two_at_once(servers) for _ in range(runs))
    return [
        Row("kill -9 at half, run again: fetched again", again, "x", "<= 0.55 x", again <= 0.55, "the file's size"),
        Row("two processes at once: fetched in all", both, "x", "<= 1.01 x", both <= 1.01, "the file's size"),
    ]


def _killed_at_half(servers: ShapedMirrors) -> float:
    with _room() as room:
        servers.reset()
        first = _process(servers, room)
        while sum(count.file_bytes for count in servers.counts()) < _FILE.size / 2:
            time.sleep(0.005)
        first.kill()
        first.communicate()
        return int(_process(servers, room).communicate()[0]) / _FILE.size


def _two_at_once(servers: ShapedMirrors) -> float:
    with _room() as room:
        running = [_process(servers, room) for _ in range(2)]
        return sum(int(process.communicate()[0]) for process in running) / _FILE.size


def _process(servers: ShapedMirrors, room: Path) -> subprocess.Popen[str]:
    urls = [servers.url(number, _FILE.name) for number in range(2)]
    command = [sys.executable, "-c", _FETCH, str(_FILE.size), servers.sha256[_FILE.name], str(room), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextmanager
def _room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="i2v-fetch-") as directory:
        yield Path(directory)


def _delete(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(measure, "The verified fetch against curl and aria2c, and under faults.")
