"""Fetching from real servers that fail in every way they can."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirrors import fetch as fetching
from mirrors.errors import FetchFailed, MirrorError, NoSpace
from mirrors.fetch import Artifact, Fetched, fetch
from mirrors.http import HttpSettings
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror, until

NAME = "weights.bin"
DATA = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
WANTED = Artifact(NAME, len(DATA), SHA256)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def _stocked(mirror: LoopbackMirror, other: LoopbackMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in (mirror, other):
        server.add(NAME, DATA)
    monkeypatch.setattr(fetching, "random", SimpleNamespace(uniform=lambda _low, _high: 0.01))


def get(store: Store, http: HttpSettings, *servers: LoopbackMirror, artifact: Artifact = WANTED) -> Fetched:
    counts: list[int] = []
    try:
        fetched = fetch(artifact, [server.url(NAME) for server in servers], store, http, counts.append)
    except MirrorError:
        assert not store.has(SHA256)
        raise
    assert fetched.path.read_bytes() == DATA
    assert sum(counts) == len(DATA)
    return fetched


def test_a_file_is_fetched_once(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    fetched = get(store, http, mirror)
    assert fetched == Fetched(WANTED, store.path(SHA256), len(DATA), fetched.seconds, mirror.url(NAME), 0)
    again = get(store, http, mirror)
    assert (again.bytes_fetched, again.source) == (0, "store")
    assert len(mirror.requests) == 1


def test_the_size_need_not_be_known(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    assert get(store, http, mirror, artifact=Artifact(NAME, None, SHA256)).bytes_fetched == len(DATA)


def test_a_local_file_is_a_source_too(tmp_path: Path, store: Store, http: HttpSettings) -> None:
    (tmp_path / "a b").write_bytes(DATA)
    fetched = fetch(WANTED, [(tmp_path / "none").as_uri(), (tmp_path / "a b").as_uri()], store, http)
    assert fetched.path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=403), "answers 403 Forbidden"),
        (Fault(status=404), "answers 404 Not Found"),
        (Fault(portal=True), "serves a web page instead of the file"),
        (Fault(redirect="http://a.invalid/"), "which is not https"),
        (Fault(redirect=f"/files/{NAME}"), "redirects more than 5 times"),
        (Fault(tamper=True), "serves other bytes than the sha256 names"),
    ],
)
def test_a_source_that_cannot_be_used_is_asked_once(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, fault: Fault, reason: str
) -> None:
    mirror.misbehave("*", fault)
    with pytest.raises(FetchFailed, match=reason) as caught:
        get(store, http, mirror)
    assert caught.value.hint
    asked = len(mirror.requests)
    assert asked == (6 if fault.redirect and fault.redirect.startswith("/") else 1)
    assert get(store, http, mirror, other).source == other.url(NAME)
    assert len(mirror.requests) == 2 * asked


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_source_gets_three_tries(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, status: int
) -> None:
    mirror.misbehave("*", Fault(status=status, times=2))
    assert get(store, http, mirror, other).retries == 2
    assert other.requests == []
    mirror.misbehave("*", Fault(status=status))
    with pytest.raises(FetchFailed, match=f"answers {status}"):
        get(Store(store.root / "2"), http, mirror)
    assert len(mirror.requests) == 3 + 3


def test_a_source_that_wants_us_to_wait_long_is_left(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(status=429, headers={"Retry-After": "3600"}))
    assert get(store, http, mirror, other).source == other.url(NAME)
    assert len(mirror.requests) == 1


def test_a_short_wait_is_waited(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(status=503, headers={"Retry-After": "0"}, times=1))
    assert get(store, http, mirror).retries == 1


def test_a_broken_connection_goes_on_where_it_broke(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(truncate=1_000_000, times=1))
    assert get(store, http, mirror).bytes_fetched == len(DATA)
    assert [seen.headers.get("range") for seen in mirror.requests] == [None, "bytes=1000000-"]


def test_a_dead_source_is_taken_over_by_the_next(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(status=404))
    mirror.misbehave("/files/*", Fault(truncate=1_000_000, times=1))
    fetched = get(store, http, mirror, other)
    assert (fetched.bytes_fetched, fetched.source) == (len(DATA), other.url(NAME))
    assert other.requests[0].headers["range"] == "bytes=1000000-"


def test_a_source_without_ranges_still_goes_on(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(status=404))
    mirror.misbehave("/files/*", Fault(truncate=1_000_000, times=1))
    other.misbehave("*", Fault(ignore_range=True))
    assert get(store, http, mirror, other).bytes_fetched == len(DATA) + 1_000_000


def test_progress_buys_new_tries(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    data = DATA * 3
    mirror.add(NAME, data)
    mirror.misbehave("*", Fault(truncate=1_500_000))
    artifact = Artifact(NAME, len(data), hashlib.sha256(data).hexdigest())
    assert fetch(artifact, [mirror.url(NAME)], store, http).retries == 5


def test_no_progress_buys_none(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(truncate=1000))
    with pytest.raises(FetchFailed, match="ends the body before its announced length"):
        get(store, http, mirror)
    assert len(mirror.requests) == 3


def test_tampered_bytes_are_thrown_away_and_the_next_source_gives_all(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(tamper=True))
    fetched = get(store, http, mirror, other)
    assert (fetched.bytes_fetched, fetched.source) == (2 * len(DATA), other.url(NAME))
    assert "range" not in other.requests[0].headers


def test_an_honest_source_is_not_blamed_for_bytes_that_were_there(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(b"evil" * 1000)
    assert get(store, http, mirror).source == mirror.url(NAME)


def test_a_wrong_partial_of_full_size_is_replaced(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    for size in (len(DATA), len(DATA) + 5):
        with store.incoming(SHA256) as partial:
            assert partial is not None
            partial.write(b"x" * size)
        get(store, http, mirror)
        store.path(SHA256).unlink()


@pytest.mark.parametrize("fault", [None, Fault(ignore_range=True)])
def test_a_partial_longer_than_a_file_of_unknown_size_is_replaced(
    mirror: LoopbackMirror, store: Store, http: HttpSettings, fault: Fault | None
) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(b"x" * (len(DATA) + 5))
    mirror.misbehave("*", fault)
    get(store, http, mirror, artifact=Artifact(NAME, None, SHA256))


def test_a_source_with_too_little_does_not_cost_what_is_here(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(DATA[:1_000_000])
    mirror.add(NAME, b"short")
    assert get(store, http, mirror, other).bytes_fetched == 2_000_000


def test_a_complete_partial_needs_no_request(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(DATA)
    assert get(store, http, mirror).bytes_fetched == 0
    assert mirror.requests == []


def test_a_body_without_end_is_stopped_at_the_known_size(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(endless=True))
    assert get(store, http, mirror).bytes_fetched < len(DATA) + (1 << 18)
    with pytest.raises(FetchFailed, match="does not say how long the file is"):
        get(Store(store.root / "2"), http, mirror, artifact=Artifact(NAME, None, SHA256))


def test_another_size_is_refused_before_the_bytes(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    with pytest.raises(FetchFailed, match="has a file of 3000000 bytes, not 7"):
        get(store, http, mirror, artifact=Artifact(NAME, 7, SHA256))


def test_a_slow_source_is_left_for_a_fast_one(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WINDOW", 0.3)
    mirror.misbehave("*", Fault(rate=20_000))
    fetched = get(store, http, mirror, other)
    assert fetched.source == other.url(NAME)
    assert fetched.bytes_fetched == len(DATA)


def test_a_slow_source_is_better_than_none(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WINDOW", 0.2)
    small = DATA[:30_000]
    sha256 = mirror.add(NAME, small)
    mirror.misbehave("*", Fault(rate=40_000))
    other.misbehave("*", Fault(status=404))
    fetched = fetch(Artifact(NAME, 30_000, sha256), [mirror.url(NAME), other.url(NAME)], store, http)
    assert fetched.source == mirror.url(NAME)
    assert len(other.requests) == 1


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=0.01), Fault(rate=20)])
def test_one_that_never_comes_to_an_end_is_given_up(
    mirror: LoopbackMirror, store: Store, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WINDOW", 0.2)
    mirror.misbehave("*", fault)
    with pytest.raises(FetchFailed, match=r"does not answer|is slow: 0\.0 KiB/s"):
        get(store, HttpSettings(response_timeout=0.3, read_timeout=0.3), mirror)
    assert len(mirror.requests) == 2


def test_all_sources_are_named_with_their_reasons(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(status=404))
    other.misbehave("*", Fault(tamper=True))
    with pytest.raises(FetchFailed) as caught:
        fetch(WANTED, [mirror.url(NAME).replace("//", "//me:secret@"), other.url(NAME)], store, http)
    assert str(caught.value) == (
        f"no source gave {NAME}: {mirror.url(NAME)} answers 404 Not Found; "
        f"{other.url(NAME)} serves other bytes than the sha256 names"
    )
    with pytest.raises(FetchFailed, match="there is none"):
        get(store, http)


def test_more_than_the_disk_holds_is_refused_at_once(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    with pytest.raises(NoSpace, match=r"needs 1000000000000 MB more") as caught:
        get(store, http, mirror, artifact=Artifact(NAME, 10**18, SHA256))
    assert caught.value.hint
    assert mirror.requests == []


CHILD = """
import json, sys
from pathlib import Path
from mirrors.fetch import Artifact, fetch
from mirrors.http import HttpSettings
from mirrors.store import Store
url, size, sha256, root = sys.argv[1:]
fetched = fetch(Artifact("a", int(size), sha256), [url], Store(Path(root)), HttpSettings())
print(json.dumps([fetched.bytes_fetched, fetched.source]))
"""


def child(mirror: LoopbackMirror, store: Store) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, mirror.url(NAME), str(len(DATA)), SHA256, str(store.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_is_gone_on_from(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(rate=2_000_000))
    first = child(mirror, store)
    partial = store.root / "partial" / SHA256
    until(lambda: partial.exists() and partial.stat().st_size > len(DATA) // 2)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = partial.stat().st_size
    mirror.misbehave("*", None)
    assert get(store, http, mirror).bytes_fetched == len(DATA) - kept


def test_two_processes_fetch_it_once(mirror: LoopbackMirror, store: Store) -> None:
    mirror.misbehave("*", Fault(rate=6_000_000))
    results = [json.loads(process.communicate()[0]) for process in [child(mirror, store), child(mirror, store)]]
    assert sorted(results) == [[0, "store"], [len(DATA), mirror.url(NAME)]]
    assert len(mirror.requests) == 1
