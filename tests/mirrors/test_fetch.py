"""Fetching from real servers that fail in every way they can."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirrors.errors import FetchFailed, MirrorError, NoSpace
from mirrors.fetch import Artifact, Downloads, Fetched, fetch
from mirrors.fetching import crew, schedule
from mirrors.fetching.schedule import FIRST_PIECE
from mirrors.fetching.transfer import SourceFault, ask
from mirrors.http import HttpSettings
from mirrors.interrupt import Interrupt
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror

NAME = "weights.bin"
DATA = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
WANTED = Artifact(NAME, len(DATA), SHA256)
SMALL = DATA[:100_000]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def _stocked(mirror: LoopbackMirror, other: LoopbackMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in (mirror, other):
        server.add(NAME, DATA)
    monkeypatch.setattr(crew, "random", SimpleNamespace(uniform=lambda _low, _high: 0.01))


def get(store: Store, http: HttpSettings, *servers: LoopbackMirror, artifact: Artifact = WANTED) -> Fetched:
    counts: list[int] = []
    try:
        fetched = fetch(artifact, [server.url(NAME) for server in servers], store, http, counts.append)
    except MirrorError:
        assert not store.has(SHA256)
        raise
    assert hashlib.sha256(fetched.path.read_bytes()).hexdigest() == artifact.sha256
    assert sum(counts) == fetched.path.stat().st_size
    assert fetched.bytes_fetched == sum(fetched.per_source.values())
    return fetched


def put(store: Store, offset: int, block: bytes, source: str = "gone:1") -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(offset, block, source)


def small(*servers: LoopbackMirror) -> Artifact:
    """A file that is one request."""
    for server in servers:
        server.add(NAME, SMALL)
    return Artifact(NAME, len(SMALL), hashlib.sha256(SMALL).hexdigest())


def netloc(server: LoopbackMirror) -> str:
    return server.base.removeprefix("http://")


def test_a_file_is_fetched_once(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    fetched = get(store, http, mirror)
    per_source = {netloc(mirror): len(DATA)}
    path, url = store.path(SHA256), mirror.url(NAME)
    assert fetched == Fetched(WANTED, path, len(DATA), fetched.seconds, url, 0, per_source, fetched.times)
    asked = len(mirror.requests)
    again = get(store, http, mirror)
    assert (again.bytes_fetched, again.source) == (0, "store")
    assert len(mirror.requests) == asked


def test_several_sources_share_the_work(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    for server in (mirror, other):
        server.misbehave("*", Fault(rate=1_500_000))
    fetched = get(store, http, mirror, other)
    assert fetched.bytes_fetched < 1.1 * len(DATA)
    assert all(fetched.per_source[netloc(server)] > len(DATA) // 5 for server in (mirror, other))


def test_the_size_need_not_be_known(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    assert get(store, http, mirror, artifact=Artifact(NAME, None, SHA256)).bytes_fetched == len(DATA)
    assert mirror.requests[0].headers["range"] == f"bytes=0-{FIRST_PIECE - 1}"


def test_an_empty_file_is_a_file(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    sha256 = mirror.add(NAME, b"")
    for size in (0, None):
        artifact = Artifact(NAME, size, sha256)
        assert get(Store(store.root / str(size)), http, mirror, artifact=artifact).bytes_fetched == 0


def test_a_local_file_is_a_source_too(tmp_path: Path, store: Store, http: HttpSettings) -> None:
    (tmp_path / "a b").write_bytes(DATA)
    fetched = fetch(WANTED, [(tmp_path / "none").as_uri(), (tmp_path / "a b").as_uri()], store, http)
    assert fetched.path.read_bytes() == DATA
    with pytest.raises(FetchFailed, match="cannot be read: No such file"):
        fetch(WANTED, [(tmp_path / "none").as_uri()], Store(tmp_path / "2"), http)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=403), "answers 403 Forbidden"),
        (Fault(status=404), "answers 404 Not Found"),
        (Fault(portal=True), "serves a web page instead of the file"),
        (Fault(redirect="http://a.invalid/"), "which is not https"),
        (Fault(redirect=f"/files/{NAME}"), "redirects more than 5 times"),
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
def test_a_busy_source_gets_three_tries(mirror: LoopbackMirror, store: Store, http: HttpSettings, status: int) -> None:
    mirror.misbehave("*", Fault(status=status, times=2))
    assert get(store, http, mirror).retries == 2
    asked = len(mirror.requests)
    mirror.misbehave("*", Fault(status=status))
    with pytest.raises(FetchFailed, match=f"answers {status}"):
        get(Store(store.root / "2"), http, mirror)
    assert len(mirror.requests) == asked + 3


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
    artifact = small(mirror)
    mirror.misbehave("*", Fault(truncate=60_000, times=1))
    assert get(store, http, mirror, artifact=artifact).bytes_fetched == len(SMALL)
    assert [seen.headers["range"] for seen in mirror.requests] == ["bytes=0-99999", "bytes=60000-99999"]


def test_a_dead_source_is_taken_over_by_the_next(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    artifact = small(mirror, other)
    mirror.misbehave("*", Fault(status=404))
    mirror.misbehave("/files/*", Fault(truncate=60_000, times=1))
    assert get(store, http, mirror, other, artifact=artifact).bytes_fetched == len(SMALL)
    assert other.requests[0].headers["range"] == "bytes=60000-99999"


def test_a_silent_source_loses_its_piece(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "STALL", 0.3)
    mirror.misbehave("*", Fault(stall=200_000))
    fetched = get(store, http, mirror, other)
    assert fetched.bytes_fetched <= len(DATA) + (1 << 20)  # blocks that were on their way to who lost the piece
    assert fetched.per_source[netloc(mirror)] > 0


def test_a_source_without_ranges_is_taken_where_there_is_no_other(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    put(store, 1_000_000, DATA[1_000_000:2_000_000])
    mirror.misbehave("*", Fault(ignore_range=True))
    fetched = get(store, http, mirror)
    assert 2_000_000 <= fetched.bytes_fetched <= 4_500_000
    assert len(mirror.requests) == 2
    assert get(Store(store.root / "2"), http, mirror, other).per_source[netloc(other)] >= 2_000_000


def test_a_source_without_ranges_sends_a_file_of_any_size_once(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(ignore_range=True))
    for size in (len(DATA), None):
        fetched = get(Store(store.root / str(size)), http, mirror, artifact=Artifact(NAME, size, SHA256))
        assert fetched.bytes_fetched == len(DATA)
    assert len(mirror.requests) == 2


def test_progress_buys_new_tries(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    data = DATA * 4
    mirror.add(NAME, data)
    mirror.misbehave("*", Fault(truncate=1_100_000, ignore_range=False, rate=20_000_000))
    artifact = Artifact(NAME, len(data), hashlib.sha256(data).hexdigest())
    assert fetch(artifact, [mirror.url(NAME)], store, http).path.read_bytes() == data


def test_no_progress_buys_none(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    artifact = small(mirror)
    mirror.misbehave("*", Fault(truncate=1000))
    with pytest.raises(FetchFailed, match="ends the body before its announced length"):
        get(store, http, mirror, artifact=artifact)
    assert len(mirror.requests) == 3


def test_a_source_with_too_little_does_not_cost_what_is_here(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    put(store, 0, DATA[:1_000_000])
    mirror.add(NAME, b"short")
    assert get(store, http, mirror, other).bytes_fetched == 2_000_000


def test_only_what_is_missing_is_asked_for(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    put(store, 500_000, DATA[500_000:1_500_000])
    put(store, 2_500_000, DATA[2_500_000:])
    assert get(store, http, mirror).bytes_fetched == 1_500_000


def test_a_complete_partial_needs_no_request(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    for size in (len(DATA), None):
        part = Store(store.root / str(size))
        put(part, 0, DATA)
        assert get(part, http, mirror, artifact=Artifact(NAME, size, SHA256)).bytes_fetched == 0
    assert mirror.requests == []


@pytest.mark.parametrize("size", [len(DATA), len(DATA) + 5])
def test_a_wrong_partial_is_replaced(mirror: LoopbackMirror, store: Store, http: HttpSettings, size: int) -> None:
    put(store, 0, b"x" * size)
    assert get(store, http, mirror).source == mirror.url(NAME)


@pytest.mark.parametrize("fault", [None, Fault(ignore_range=True)])
@pytest.mark.parametrize("extra", [0, 5])
def test_a_wrong_partial_of_a_file_of_unknown_size_is_replaced(
    mirror: LoopbackMirror, store: Store, http: HttpSettings, fault: Fault | None, extra: int
) -> None:
    put(store, 0, b"x" * (len(DATA) + extra))
    mirror.misbehave("*", fault)
    get(store, http, mirror, artifact=Artifact(NAME, None, SHA256))


def test_a_body_without_end_is_stopped_at_the_known_size(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(endless=True))
    assert get(store, http, mirror).bytes_fetched < len(DATA) + 20 * (1 << 18)
    mirror.misbehave("*", Fault(endless=True, ignore_range=True))
    with pytest.raises(FetchFailed, match="does not say how long the file is"):
        get(Store(store.root / "2"), http, mirror, artifact=Artifact(NAME, None, SHA256))


def test_another_size_is_refused_before_the_bytes(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    with pytest.raises(FetchFailed, match="has a file of 3000000 bytes, not 7"):
        get(store, http, mirror, artifact=Artifact(NAME, 7, SHA256))


UNSIZED = Artifact(NAME, None, SHA256)
FIRST = f"bytes 0-{FIRST_PIECE - 1}/"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (DATA + b"more", Fault()),
        (DATA + b"more", Fault(tamper=True)),
        (DATA[:1_500_000], Fault()),
        (DATA[:1], Fault()),
        (DATA[:2_000_000], Fault(stall=100_000)),
        (DATA * 2, Fault(stall=0)),
        (DATA, Fault(headers={"Content-Range": FIRST + "4000000000"})),
        (DATA, Fault(headers={"Content-Range": FIRST + "9" * 18})),
        (DATA, Fault(headers={"Content-Range": FIRST + "9" * 5000})),
        (DATA, Fault(headers={"Content-Range": "bytes 0-0/0"}, status=206)),
        (DATA, Fault(headers={"Content-Range": "bytes */0"}, status=416)),
        (DATA, Fault(status=416)),
        (b"", Fault(ignore_range=True)),
        (DATA + b"more", Fault(ignore_range=True)),
    ],
)
def test_one_that_lies_about_the_size_and_answers_first_does_not_decide(
    mirror: LoopbackMirror,
    other: LoopbackMirror,
    store: Store,
    http: HttpSettings,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    fault: Fault,
) -> None:
    monkeypatch.setattr(schedule, "STALL", 0.3)
    monkeypatch.setattr(crew, "TICK", 0.02)
    mirror.add(NAME, data)
    mirror.misbehave("*", fault)
    with Downloads(store, http) as downloads:
        fetched = downloads.want(UNSIZED, [mirror.url(NAME), other.url(NAME)]).result()
        assert netloc(other) not in downloads.dropped
    assert fetched.path.read_bytes() == DATA


def test_of_two_sizes_the_one_that_more_say_is_believed(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    with LoopbackMirror() as third:
        third.add(NAME, DATA)
        mirror.add(NAME, DATA[:-1])
        mirror.misbehave("*", Fault(rate=100_000))
        fetched = get(store, http, mirror, other, third, artifact=UNSIZED)
    assert fetched.per_source[netloc(mirror)] < len(DATA) // 2


def test_most_sources_may_lie_about_the_size_alike(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    with LoopbackMirror() as third:
        for liar in (mirror, third):
            liar.add(NAME, DATA[:-1])
        assert get(store, http, mirror, third, other, artifact=UNSIZED).per_source[netloc(other)] > 0


def test_one_that_is_slow_and_says_another_size_is_left_for_the_other_one(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "WINDOW", 0.3)
    mirror.add(NAME, DATA[:-1])
    mirror.misbehave("*", Fault(rate=4000))
    assert get(store, http, mirror, other, artifact=UNSIZED).per_source[netloc(mirror)] < len(DATA) // 10


def test_bytes_that_are_here_cost_nobody_its_good_name_when_the_size_was_a_lie(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    put(store, 0, DATA[:2_000_000], netloc(other))
    mirror.add(NAME, DATA[:1_500_000])
    with Downloads(store, http) as downloads:
        assert downloads.want(UNSIZED, [mirror.url(NAME), other.url(NAME)]).result().path.read_bytes() == DATA
        assert netloc(other) not in downloads.dropped


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_no_file_of_that_sha256_has_ends_it(
    mirror: LoopbackMirror, store: Store, http: HttpSettings, size: int
) -> None:
    put(store, 0, b"what an earlier run left")
    with pytest.raises(FetchFailed, match=f"cannot have {size} bytes") as caught:
        get(store, http, mirror, artifact=Artifact(NAME, size, SHA256))
    assert caught.value.hint


def test_a_total_of_too_many_digits_is_no_size(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(headers={"Content-Range": FIRST + "9" * 5000}))
    assert get(store, http, mirror, other).per_source == {netloc(other): len(DATA)}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://192.0.2.1/a", "is not https"),
        ("ftp://127.0.0.1/a", "is not https"),
        ("/etc/hostname", "is not https"),
        ("https://[a/b", "is not a URL that can be fetched"),
    ],
)
def test_an_address_of_another_kind_is_never_asked(
    mirror: LoopbackMirror, store: Store, http: HttpSettings, url: str, reason: str
) -> None:
    with pytest.raises(FetchFailed, match=reason):
        fetch(WANTED, [url], store, http)
    with pytest.raises(SourceFault, match=reason), ask(url, 0, None, http, Interrupt()):
        pass
    assert fetch(WANTED, [url, mirror.url(NAME)], store, http).retries == 0


def test_a_slow_source_is_left_for_a_fast_one(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(rate=20_000))
    fetched = get(store, http, mirror, other)
    assert fetched.source == other.url(NAME)
    assert fetched.per_source[netloc(mirror)] < len(DATA) // 10


def test_a_slow_source_is_better_than_none(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "WINDOW", 0.2)
    artifact = small(mirror)
    mirror.misbehave("*", Fault(rate=40_000))
    other.misbehave("*", Fault(status=404))
    assert get(store, http, mirror, other, artifact=artifact).source == mirror.url(NAME)
    assert len(other.requests) == 1


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=0.01), Fault(rate=20)])
def test_one_that_never_comes_to_an_end_is_given_up(
    mirror: LoopbackMirror, store: Store, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "WINDOW", 0.2)
    artifact = small(mirror)
    mirror.misbehave("*", fault)
    with pytest.raises(FetchFailed, match=r"does not answer|is slow: 0\.0 KiB/s"):
        get(store, HttpSettings(response_timeout=0.3, read_timeout=0.3), mirror, artifact=artifact)
    assert len(mirror.requests) <= 4


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
    with pytest.raises(NoSpace, match=r"needs 1000000000000.0 MB more") as caught:
        get(store, http, mirror, artifact=Artifact(NAME, 10**18, SHA256))
    assert caught.value.hint
    assert mirror.requests == []


def test_a_disk_that_is_full_ends_it(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    (store.root / "partial").mkdir(parents=True)
    (store.root / "partial" / SHA256).symlink_to("/dev/full")
    with pytest.raises(NoSpace, match="is full"):
        get(store, http, mirror)


def test_a_redirect_is_asked_for_once_and_again_when_it_has_run_out(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(redirect=other.url(NAME)))
    mirror.add(NAME, DATA)
    get(store, http, mirror)
    first, direct = len(mirror.requests), len(other.requests)
    assert first < direct
    other.misbehave("*", Fault(truncate=0, times=1))  # the first answer
    assert get(Store(store.root / "2"), http, mirror).bytes_fetched == len(DATA)
    assert len(mirror.requests) >= first + 2
