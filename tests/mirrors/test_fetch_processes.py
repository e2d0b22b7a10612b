"""Fetching over kills, and two processes at once."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mirrors.fetch import Artifact, fetch
from mirrors.http import HttpSettings
from mirrors.partial import notes_of
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror, until

DATA = random.Random(4).randbytes(4_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
WANTED = Artifact("a", len(DATA), SHA256)
CHILD = """
import json, sys
from pathlib import Path
from mirrors.fetch import Artifact, fetch
from mirrors.http import HttpSettings
from mirrors.store import Store
size, sha256, root, *urls = sys.argv[1:]
fetched = fetch(Artifact("a", int(size), sha256), urls, Store(Path(root)), HttpSettings())
print(json.dumps([fetched.bytes_fetched, fetched.source]))
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def _stocked(mirror: LoopbackMirror, other: LoopbackMirror) -> None:
    for server in (mirror, other):
        server.add("a", DATA)


def child(store: Store, *servers: LoopbackMirror) -> subprocess.Popen[str]:
    urls = [server.url("a") for server in servers]
    command = [sys.executable, "-c", CHILD, str(len(DATA)), SHA256, str(store.root), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def noted(store: Store) -> int:
    notes = notes_of(store.root / "partial" / SHA256)
    lines = notes.read_text().split("\n")[:-1] if notes.exists() else []
    return sum(int(line.split()[1]) - int(line.split()[0]) for line in lines)


@pytest.mark.parametrize("count", [1, 2])
def test_what_a_killed_process_fetched_is_not_fetched_again(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, count: int
) -> None:
    servers = (mirror, other)[:count]
    for server in servers:
        server.misbehave("*", Fault(rate=700_000))
    first = child(store, *servers)
    until(lambda: noted(store) > len(DATA) // 2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    missing = len(DATA) - noted(store)
    for server in servers:
        server.misbehave("*", Fault(rate=1_500_000))
    fetched = fetch(WANTED, [server.url("a") for server in servers], store, http)
    assert missing <= fetched.bytes_fetched < missing + len(DATA) // 10
    assert fetched.path.read_bytes() == DATA


def test_kills_at_any_moment_leave_something_to_go_on_with(mirror: LoopbackMirror, store: Store) -> None:
    mirror.misbehave("*", Fault(rate=1_000_000))
    for part in range(1, 4):
        process = child(store, mirror)
        until(lambda part=part: noted(store) > part * len(DATA) // 5)
        process.kill()
        process.communicate()
    mirror.misbehave("*", None)
    last = child(store, mirror)
    assert json.loads(last.communicate()[0])[0] < 0.5 * len(DATA)
    assert store.path(SHA256).read_bytes() == DATA
    assert mirror.sent < 1.5 * len(DATA)


def test_two_processes_fetch_it_once(mirror: LoopbackMirror, other: LoopbackMirror, store: Store) -> None:
    mirror.misbehave("*", Fault(rate=1_500_000))
    results = [json.loads(process.communicate()[0]) for process in [child(store, mirror), child(store, mirror)]]
    assert sorted(results) == [[0, "store"], [len(DATA), mirror.url("a")]]


def test_the_second_goes_on_where_the_first_was_killed(mirror: LoopbackMirror, store: Store) -> None:
    mirror.misbehave("*", Fault(rate=700_000))
    first = child(store, mirror)
    until(lambda: noted(store) > len(DATA) // 2)
    second = child(store, mirror)
    first.kill()
    first.communicate()
    mirror.misbehave("*", None)
    assert json.loads(second.communicate()[0])[0] < 0.55 * len(DATA)
    assert store.path(SHA256).read_bytes() == DATA
