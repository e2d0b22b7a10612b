"""One scenario of `benchmarks.mirrors` played out: our own code, and the peers, for the same files from cold caches.

Ours is what an install does: measure, choose, fetch from the chosen, the whole of it timed. Knows nothing of bars.
"""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import pypi_simple  # noqa: F401  # mirrors loads it when it needs it; how long that takes is another benchmark's business

from benchmarks.families import MB
from benchmarks.scenarios import Scenario, scenario
from benchmarks.shaped import File, Shape, ShapedMirrors
from benchmarks.singles import LONGEST, Single, artifact, best, peers, room, singles
from mirrors.choose import choose
from mirrors.errors import Busy, MirrorError
from mirrors.fetch import Downloads
from mirrors.http import HttpSettings
from mirrors.probe import Measurement, Wanted, measure
from mirrors.store import Store

_KNOWN = Shape(rate=MB)  # a mirror of known pace, to check the shaping itself
_KNOWN_BYTES = 2_000_000


@dataclass(frozen=True)
class Ours:
    """How our own code fared.

    Attributes:
        selection: seconds until the mirrors were chosen.
        fetching: seconds from there until every file was in the store, verified.
        predicted: seconds that the choice expected, for the bytes that were not here by then.
        requests: to the mirror that was asked most in the selection.
        most_bytes: of files, from the mirror that was asked for most in the selection.
        probed: bytes of files that all mirrors sent in the selection.
        kept: how many of these were in the store when it ended.
        sources: the chosen mirrors, best first.
        wrong: chosen mirrors that had to be out.
        per_mirror: bytes of files that each mirror sent in all.
        failure: why the files did not come, or were not right; empty if all is well.
        told: what was found of each mirror, for people.
    """

    selection: float
    fetching: float
    predicted: float
    requests: int
    most_bytes: int
    probed: int
    kept: int
    sources: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    per_mirror: tuple[int, ...] = ()
    failure: str = ""
    told: tuple[str, ...] = field(default=(), repr=False)

    @property
    def seconds(self) -> float:
        """Until all is there, selection included."""
        return self.selection + self.fetching


@dataclass(frozen=True)
class Outcome:
    """All of one scenario.

    Attributes:
        peers: seconds of each peer by its name, its own selection included; the second says whether it was done then.
        calibration: measured rate of a plain download / the rate that the mirror was told, while all this went on.
        lag: seconds by which the servers were late, at worst.
    """

    seed: int
    family: str
    capped: bool
    ours: Ours
    singles: dict[int, Single]
    oracle: float
    peers: dict[str, tuple[float, bool]]
    calibration: float | None
    lag: float


def play(seed: int, *, traced: bool = False) -> Outcome:
    """Play the scenario of that seed; with odd seeds ours goes first, with even ones the peers do."""
    drawn = scenario(seed)
    with ShapedMirrors([*drawn.shapes, _KNOWN], drawn.files, drawn.link) as servers:
        if seed % 2:
            ours = _ours(drawn, servers, traced)
            lag = servers.lag()
            servers.reset()
        with _calibrating(drawn, servers) as calibration:
            alone = singles(drawn, servers)
        if not seed % 2:
            servers.reset()
            ours = _ours(drawn, servers, traced)
            lag = servers.lag()
    return Outcome(
        seed,
        drawn.family,
        drawn.capped,
        ours,
        alone,
        best(alone),
        peers(drawn, alone),
        calibration[0] if calibration else None,
        lag,
    )


def _ours(drawn: Scenario, servers: ShapedMirrors, traced: bool) -> Ours:
    largest, http_settings = drawn.files[0], HttpSettings()
    wanted = Wanted(largest.project, largest.name, servers.sha256[largest.name], largest.size)
    rows = servers.mirrors[: len(drawn.shapes)]
    with room() as directory, _trace(servers, traced):
        store = Store(directory)
        began = time.monotonic()
        found = measure(rows, wanted, http_settings, amount=drawn.total, store=store)
        choice = choose(found, drawn.total, Random(drawn.seed))
        selected = time.monotonic()
        probes = servers.counts()[: len(rows)]
        kept = sum(_kept(store, servers.sha256[file.name]) for file in drawn.files)
        sources = [rows.index(source.mirror) for source in choice.sources]
        resumed = time.monotonic()
        failure = _fetch(drawn.files, servers, sources, store, http_settings, found)
        fetched = time.monotonic()
        failure = failure or _wrong_files(drawn.files, servers, store)
    return Ours(
        selected - began,
        fetched - resumed,
        choice.predicted,
        max(count.requests for count in probes),
        max(count.file_bytes for count in probes),
        sum(count.file_bytes for count in probes),
        kept,
        tuple(sources),
        tuple(number for number in sources if number in drawn.out),
        tuple(count.file_bytes for count in servers.counts()),
        failure,
        tuple(_told(one) for one in found),
    )


def _fetch(
    files: Sequence[File],
    servers: ShapedMirrors,
    sources: Sequence[int],
    store: Store,
    http_settings: HttpSettings,
    found: Sequence[Measurement],
) -> str:
    """Fetch all files from these mirrors; why that failed, or nothing."""
    rates = {servers.netloc(number): one.rate for number, one in enumerate(found) if one.rate}
    deadline = time.monotonic() + LONGEST
    try:
        with Downloads(store, http_settings, rates=rates) as downloads:
            waiting = [
                downloads.want(artifact(file, servers), [servers.url(number, file.name) for number in sources])
                for file in files
            ]
            for download in waiting:
                download.result(max(0.0, deadline - time.monotonic()))
    except (MirrorError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _wrong_files(files: Sequence[File], servers: ShapedMirrors, store: Store) -> str:
    for file in files:
        sha256 = servers.sha256[file.name]
        if not store.has(sha256) or hashlib.sha256(store.path(sha256).read_bytes()).hexdigest() != sha256:
            return f"{file.name} is not there, or is wrong"
    return ""


def _kept(store: Store, sha256: str) -> int:
    """Bytes of a file that are in the store."""
    try:
        with store.incoming(sha256, wait=False) as partial:
            return store.path(sha256).stat().st_size if partial is None else partial.have.total
    except Busy:
        return 0


@contextmanager
def _calibrating(drawn: Scenario, servers: ShapedMirrors) -> Iterator[list[float]]:
    """Meanwhile, a plain download from a mirror of known pace: its rate / what it was told."""
    ratios: list[float] = []
    if drawn.link is not None:
        yield ratios
        return

    def download() -> None:
        known = len(drawn.shapes)
        connection = http.client.HTTPConnection(servers.netloc(known))
        began, count = time.monotonic(), 0
        connection.request("GET", f"/files/{drawn.files[0].name}")
        response = connection.getresponse()
        while count < _KNOWN_BYTES and (block := response.read1(1 << 16)):
            count += len(block)
        ratios.append(count / (time.monotonic() - began) / (_KNOWN.rate or 1))
        connection.close()

    thread = threading.Thread(target=download)
    thread.start()
    try:
        yield ratios
    finally:
        thread.join()


@contextmanager
def _trace(servers: ShapedMirrors, wanted: bool) -> Iterator[None]:
    """Print what each mirror sent in every quarter of a second."""
    if not wanted:
        yield
        return
    over, began = threading.Event(), time.monotonic()

    def watch() -> None:
        before = [0] * len(servers.mirrors)
        while not over.wait(0.25):
            now = [count.file_bytes for count in servers.counts()]
            sent = [f"{(here - there) / 1e3 or 0:6.0f}" for here, there in zip(now, before, strict=True)]
            print(f"{time.monotonic() - began:6.2f} s  kB:{' '.join(sent)}")
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _told(found: Measurement) -> str:
    rate = f"{found.rate / 1e6:.2f} MB/s x{found.connections}" if found.rate else "-"
    asked = f"{found.requests} requests, {found.probe_bytes / 1e3:.0f} kB"
    return f"{found.mirror.name}: {found.verdict}, {rate}, {asked}: {found.reason}"
