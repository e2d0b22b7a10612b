"""Mirrors on 127.0.0.1 that are as slow, as far away and as faulty as they are told to be.

They run in one process of their own, so that their work is not the client's, and count what was asked of them:

    wheel = File("demo-1.0-py3-none-any.whl", 5_000_000)
    with ShapedMirrors([Shape(rate=2e6, rtt=0.05), Shape(fault="hang")], [wheel]) as servers:
        servers.mirrors[0], servers.url(0, wheel.name), servers.sha256[wheel.name]
        servers.counts()[0].file_bytes

This module says what a mirror can be told; `benchmarks.shaping` is the process that does it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mirrors.catalogue import Mirror

Fault = Literal[
    "",
    "hang",  # accepts and never answers
    "forbidden",  # 403 to uv's User-Agent
    "stale",  # lists and has an older version only
    "size",  # serves a longer file than it lists
    "portal",  # a login page with status 200, whatever is asked
    "redirect",  # files: 302 to `target`
    "links",  # the index lists files at `target`
    "tamper",  # in every 64 KiB one wrong byte
    "dies",  # after `after` bytes: every connection broken, none answered again
    "stalls",  # after `after` bytes: every connection silent, new ones too
]
OUT: tuple[Fault, ...] = ("hang", "forbidden", "stale", "size", "portal", "redirect", "links")  # a probe can see these

_ROOT = Path(__file__).parents[1]
_QUIT_SECONDS = 5.0


@dataclass(frozen=True)
class Shape:
    """How one mirror behaves.

    Attributes:
        rate: bytes/s over all its connections; None: as fast as the machine.
        connection_rate: bytes/s of one connection; None: no limit of its own.
        rtt: seconds of a round trip: one for a new connection, one for each request, and the pace of slow start.
        first_byte: seconds that it thinks before it answers, beside the round trip.
        window: bytes that a connection sends in its first round trip; it doubles with each (TCP: ten segments).
        cold_wait: seconds until it has fetched a file that it does not have in its cache; once a file.
        cold_rate: bytes/s, over all connections, of bytes that nobody read before; None: as fast as others.
        hot: names of the files that are in its cache from the start.
        fault: what is wrong with it.
        after: bytes of files that it sends before it dies or stalls.
        target: the mirror, by its number, that it sends people to.
    """

    rate: float | None = None
    connection_rate: float | None = None
    rtt: float = 0.0
    first_byte: float = 0.0
    window: int = 14_600
    cold_wait: float = 0.0
    cold_rate: float | None = None
    hot: tuple[str, ...] = ()
    fault: Fault = ""
    after: int = 0
    target: int = 0


@dataclass(frozen=True)
class File:
    """A wheel that all mirrors have. Its bytes follow from its name and `seed`."""

    name: str
    size: int
    seed: int = 0

    @property
    def project(self) -> str:
        """Whose page lists it."""
        return self.name.partition("-")[0]

    def content(self) -> bytes:
        """The bytes: they begin as a zip file does."""
        return (b"PK\x03\x04" + random.Random(f"{self.name} {self.seed}").randbytes(self.size))[: self.size]


@dataclass(frozen=True)
class Count:
    """What a mirror was asked since the last reset: requests of any kind, and the bytes of files that it sent."""

    requests: int
    file_bytes: int


class ShapedMirrors:
    """A process that serves all these mirrors; it lives as long as the `with` block.

    Attributes:
        mirrors: one row each, in the order of the shapes; the first is the upstream.
        sha256: of each file by its name.
    """

    def __init__(self, shapes: Sequence[Shape], files: Sequence[File], link: float | None = None) -> None:
        """Start the process.

        Args:
            shapes: one a mirror.
            files: what all of them serve.
            link: bytes/s of all mirrors together, as if the client's own line were the bottleneck; None: no limit.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.shaping"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        self._lock = threading.Lock()
        config = {"shapes": [asdict(shape) for shape in shapes], "files": [asdict(file) for file in files]}
        started = self._ask(json.dumps({**config, "link": link}))
        self.sha256: dict[str, str] = started["sha256"]
        self._ports: list[int] = started["ports"]
        self.mirrors = tuple(
            Mirror(f"m{number}", f"m{number}", "pypi", f"{self.base(number)}/simple", "", "simple", number == 0)
            for number in range(len(self._ports))
        )

    def __enter__(self) -> ShapedMirrors:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_QUIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def base(self, number: int) -> str:
        """Scheme, host and port of a mirror."""
        return f"http://{self.netloc(number)}"

    def netloc(self, number: int) -> str:
        """Host and port of a mirror."""
        return f"127.0.0.1:{self._ports[number]}"

    def url(self, number: int, name: str) -> str:
        """Where a mirror has a file."""
        return f"{self.base(number)}/files/{quote(name)}"

    def counts(self) -> tuple[Count, ...]:
        """What each mirror was asked so far."""
        return tuple(Count(*count) for count in self._ask("counts")["counts"])

    def lag(self) -> float:
        """Seconds by which the process was late with a byte, at worst since the last reset: the machine was busy."""
        return float(self._ask("counts")["lag"])

    def reset(self) -> None:
        """Cold caches, counts at zero, the dead alive again."""
        self._ask("reset")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(line, file=self._process.stdin, flush=True)
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
