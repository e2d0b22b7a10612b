"""How fast the server takes jobs, while its worker is at work: submissions at a steady rate, many clients, a burst.

    /health after the start           within 1 s
    50 submissions a second           p50 at most 10 ms, p99 at most 150 ms, with a queue of 10,000
    20 clients at once                no answer 5xx
    a burst of ten queues             only 202 and 429; the server's memory grows by less than 50 MiB
    hostile files and requests        each is refused within 1 s

The peer of the steady rate is the same server's cheapest answer, /health, asked in turn with it: what of a submission
is the machine's and the framework's. Real processes on loopback, the demo model. The clients share the machine with the
server, so they send what was put together once, by the standard library's client: a comfortable one takes 1 ms more.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import contextlib
import os
import re
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.harness import Row, main
from tests.runtime.conftest import SMALL as FIELDS
from tests.runtime.conftest import Server
from tests.runtime.hostile import PICTURES, requests_that_are_no_forms

ROOT = Path(__file__).resolve().parents[1]
PHOTO = (ROOT / "examples" / "temple.jpg").read_bytes()
A_SECOND = 50
CLIENTS = 20
QUEUE = 5


@dataclass(frozen=True)
class Served:
    """One server process.

    Attributes:
        url: Where it answers.
        pid: Its process.
        health_seconds: From its start until it did.
    """

    url: str
    pid: int
    health_seconds: float

    def client(self) -> HTTPConnection:
        """A connection of one's own."""
        return HTTPConnection(urlsplit(self.url).netloc, timeout=60)


def submit(client: HTTPConnection) -> int:
    """Sends one job; the status of the answer."""
    return _asked(client, "POST", "/v1/videos", *_submission())


def health(client: HTTPConnection) -> int:
    """The cheapest answer there is."""
    return _asked(client, "GET", "/health")


def _asked(client: HTTPConnection, method: str, path: str, body: bytes = b"", kind: str | None = None) -> int:
    client.request(method, path, body, {"Content-Type": kind} if kind else {})
    with client.getresponse() as answer:
        answer.read()
        return answer.status


@cache
def _submission() -> tuple[bytes, str]:
    files = {"input_reference": ("photo.jpg", PHOTO)}
    request = httpx.Request("POST", "http://localhost", data=FIELDS, files=files)
    return request.read(), request.headers["Content-Type"]


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[Served]:
    """A ready server with the demo model."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        server = Server(Path(directory) / "data", arguments).start()
        try:
            server.request("GET", "/health").raise_for_status()
            seconds = time.perf_counter() - began
            server.wait_ready()
            yield Served(server.url, server.process.pid, seconds)
        finally:
            server.stop()


def measure(quick: bool) -> Sequence[Row]:
    """All rows."""
    with served("--max-waiting", "10000") as server:
        rows = [_row("/health after the start", server.health_seconds, "s", 1.0, "the process's start")]
        rows += _steady(server, 5 if quick else 20)
        rows.append(_many(server, 100 if quick else 1000))
        rows.append(_hostile(server))
    with served("--max-waiting", str(QUEUE)) as server:
        rows += _burst(server)
    return rows


def _steady(server: Served, seconds: int) -> list[Row]:
    """Submissions at a steady rate, whatever the answers take, each followed by a look at /health."""
    submissions, looks = list[float](), list[float]()
    statuses = Counter[int]()
    mutex = threading.Lock()
    clients = threading.local()

    def send(due: float) -> None:
        if not hasattr(clients, "own"):
            clients.own = server.client()
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        status = submit(clients.own)
        between = time.perf_counter()
        health(clients.own)
        ended = time.perf_counter()
        with mutex:
            statuses[status] += 1
            submissions.append(1000 * (between - began))
            looks.append(1000 * (ended - between))

    start = time.perf_counter() + 0.5
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, [start + number / A_SECOND for number in range(A_SECOND * seconds)]))
    assert set(statuses) == {202}, statuses
    name = f"{A_SECOND} submissions a second, for {seconds} s"
    return [
        _row(f"{name}: p50", statistics.median(submissions), "ms", 10, f"/health, {statistics.median(looks):.1f} ms"),
        _row(f"{name}: p99", _p99(submissions), "ms", 150, f"/health, {_p99(looks):.1f} ms"),
    ]


def _many(server: Served, jobs: int) -> Row:
    """As fast as so many clients can."""
    statuses = _at_once(server, jobs)
    failed = sum(count for status, count in statuses.items() if status >= 500)
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return Row(f"{CLIENTS} clients at once, {jobs} jobs: answers 5xx", failed, "answers", "0", failed == 0, told)


def _hostile(server: Served) -> Row:
    """What is no picture, and what is no form, one after the other."""
    slowest, refused, sent = 0.0, 0, 0
    with httpx.Client(timeout=30) as client:
        requests: list[dict[str, Any]] = [
            {"data": FIELDS, "files": {"input_reference": ("x", each)}} for each in PICTURES.values()
        ]
        requests += [{"content": body, "headers": headers} for _, body, headers in requests_that_are_no_forms()]
        for request in requests:
            began = time.perf_counter()
            status = client.post(f"{server.url}/v1/videos", **request).status_code
            slowest = max(slowest, time.perf_counter() - began)
            refused += 400 <= status < 500
            sent += 1
    row = _row(f"{sent} hostile uploads: the slowest answer", slowest, "s", 1.0, f"{refused} x 4xx")
    return replace(row, holds=row.holds and refused == sent)


def _burst(server: Served) -> list[Row]:
    """Ten times what the queue takes, at once."""
    process = psutil.Process(server.pid)
    _at_once(server, CLIENTS)  # what the first requests take is not what a burst takes
    before = process.memory_info().rss
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the kernel counts the peak anew
    statuses = _at_once(server, 10 * QUEUE)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert peak
    grown = int(peak[1]) / 1024 - before / 2**20
    others = sum(count for status, count in statuses.items() if status not in (202, 429))
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return [
        Row("a burst of ten queues: answers but 202 and 429", others, "answers", "0", others == 0, told),
        _row("a burst of ten queues: memory", grown, "MiB", 50, f"{before / 2**20:.0f} MiB before"),
    ]


def _at_once(server: Served, jobs: int) -> Counter[int]:
    clients = threading.local()

    def send(_: int) -> int:
        if not hasattr(clients, "own"):
            clients.own = server.client()
        return submit(clients.own)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(send, range(jobs)))


def _row(name: str, value: float, unit: str, most: float, peer: str) -> Row:
    return Row(name, value, unit, f"at most {most:g}", value <= most, peer)


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(measure, __doc__ or "")
