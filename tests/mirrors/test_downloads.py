"""Several files at once, and readers of files that are still coming in."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirrors import fetch as fetching
from mirrors.artifact import FLOW_SECONDS
from mirrors.errors import FetchFailed, MirrorError, WrongBytes
from mirrors.fetch import Artifact, Downloads
from mirrors.fetching import crew, schedule
from mirrors.fetching.download import HELD_BACK, Download
from mirrors.http import HttpSettings
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror, until

DATA = random.Random(1).randbytes(2_000_000)
WANTED = Artifact("a.bin", len(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def _stocked(mirror: LoopbackMirror, other: LoopbackMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in (mirror, other):
        server.add("a.bin", DATA)
    monkeypatch.setattr(crew, "random", SimpleNamespace(uniform=lambda _low, _high: 0.01))


def read_all(download: Download, step: int = 100_000) -> bytes:
    epoch, content = download.epoch, bytearray()
    while block := download.read(len(content), len(content) + step, epoch):
        content += block
    return bytes(content)


def _read_on(download: Download, content: bytearray, epoch: int) -> None:
    while True:
        content += download.read(len(content), len(DATA), epoch)


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("i2v")]


def test_many_files_come_from_two_mirrors(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    dice, wanted, counts = random.Random(0), [], list[int]()
    for number in range(60):
        data = dice.randbytes(int(10 ** dice.uniform(0, 6)))
        for server in (mirror, other):
            sha256 = server.add(f"{number}", data)
        wanted.append(Artifact(f"{number}", len(data) if number % 3 else None, sha256))
    with Downloads(store, http, counts.append) as downloads:
        coming = [downloads.want(one, [mirror.url(one.name), other.url(one.name)]) for one in wanted]
        fetched = [download.result() for download in coming]
        received = downloads.received
    for one, got in zip(wanted, fetched, strict=True):
        assert hashlib.sha256(got.path.read_bytes()).hexdigest() == one.sha256
    assert sum(counts) == sum(got.path.stat().st_size for got in fetched)
    assert sum(received.values()) == sum(got.bytes_fetched for got in fetched)
    assert sum(received.values()) >= sum(counts)  # a part that changed hands may come twice
    assert ours() == []


def test_a_file_is_wanted_once(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    with Downloads(store, http) as downloads:
        first = downloads.want(WANTED, [mirror.url("a.bin")])
        assert downloads.want(WANTED, [mirror.url("a.bin")]) is first
        assert first.result().bytes_fetched == len(DATA)
        assert first.path == store.path(WANTED.sha256)


def test_it_is_known_when_each_file_came_and_from_whom(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    began = time.monotonic()
    with Downloads(store, http) as downloads:
        missing = downloads.want(Artifact("none", None, "0" * 64), [mirror.url("none")])
        downloads.want(WANTED, [mirror.url("a.bin"), other.url("a.bin")]).result()
        with pytest.raises(FetchFailed):
            missing.result()
        (fetched,) = downloads.fetched
        flow, received = downloads.flow, downloads.received
    times = fetched.times
    assert times is not None
    assert times.first is not None
    assert times.last is not None
    assert times.checked is not None
    assert times.verified is not None
    order = [began, times.begun, times.first, times.last, times.verified, times.ended, time.monotonic()]
    assert order == sorted(order)
    assert times.begun <= times.checked
    assert 0 < times.hashing <= times.verified - times.checked
    assert {netloc: sum(slots.values()) for netloc, slots in flow.items()} == received
    slots = [slot for given in flow.values() for slot in given]
    assert times.first - FLOW_SECONDS < min(slots) <= max(slots) <= times.last


def test_a_file_that_is_here_has_no_first_byte(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    fetching.fetch(WANTED, [mirror.url("a.bin")], store, http)
    times = fetching.fetch(WANTED, [mirror.url("a.bin")], store, http).times
    assert times is not None
    assert (times.first, times.last, times.checked, times.verified) == (None, None, None, None)
    assert times.hashing == 0


def test_one_that_fails_does_not_take_the_others_down(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    none = Artifact("none", None, "0" * 64)
    with Downloads(store, http) as downloads:
        bad, good = downloads.want(none, [mirror.url("none")]), downloads.want(WANTED, [mirror.url("a.bin")])
        for call in (bad.result, bad.size, lambda: bad.read(0, 1)):
            with pytest.raises(FetchFailed, match="answers 404"):
                call()
        assert good.result().bytes_fetched == len(DATA)


def test_bytes_are_read_as_they_come(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(rate=400_000))
    with Downloads(store, http) as downloads:
        download = downloads.want(Artifact("a.bin", None, WANTED.sha256), [mirror.url("a.bin")])
        assert download.size() == len(DATA)
        first = download.read(0, 10)
        assert DATA.startswith(first)
        assert first
        assert download.path is None
        mirror.misbehave("*", None)
        assert read_all(download) == DATA
        assert download.read(len(DATA), len(DATA) + 10) == b""


def test_several_readers_of_one_file(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(rate=2_000_000))
    with Downloads(store, http) as downloads, ThreadPoolExecutor(8) as pool:
        download = downloads.want(WANTED, [mirror.url("a.bin")])
        steps = [1000, 70_000, 300_000, 5_000_000] * 2
        contents = list(pool.map(lambda step: read_all(download, step), steps))
    assert all(content == DATA for content in contents)


def test_the_end_of_a_file_is_given_only_when_the_whole_is_right(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(tamper=True))
    with Downloads(store, http) as downloads:
        download = downloads.want(WANTED, [mirror.url("a.bin")])
        content, epoch = bytearray(), download.epoch
        with pytest.raises((WrongBytes, FetchFailed)):
            _read_on(download, content, epoch)
        assert len(content) <= len(DATA) - HELD_BACK
        with pytest.raises(FetchFailed, match="serves other bytes than the sha256 names"):
            download.result()


def test_who_got_wrong_bytes_is_told_and_may_read_again(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(tamper=True))
    other.misbehave("*", Fault(rate=1_000_000))
    with Downloads(store, http) as downloads:
        download = downloads.want(WANTED, [mirror.url("a.bin"), other.url("a.bin")])
        epoch = download.epoch
        assert download.read(0, 10, epoch) != DATA[:10]
        assert download.result().path.read_bytes() == DATA
        with pytest.raises(WrongBytes):
            download.read(10, 20, epoch)
        assert read_all(download) == DATA
        assert downloads.dropped == {mirror.base.removeprefix("http://"): "serves other bytes than the sha256 names"}
        mirror.misbehave("*", None)
        asked = len(mirror.requests)
        mirror.add("b", b"b")
        again = downloads.want(Artifact("b", 1, hashlib.sha256(b"b").hexdigest()), [mirror.url("b")])
        with pytest.raises(FetchFailed, match="serves other bytes"):
            again.result()
        assert len(mirror.requests) == asked


def test_who_was_told_a_wrong_size_is_told_so(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.add("a.bin", DATA[:1000])
    mirror.misbehave("*", Fault(rate=1000))
    other.misbehave("*", Fault(hang=True, times=1))
    with Downloads(store, http) as downloads:
        download = downloads.want(Artifact("a.bin", None, WANTED.sha256), [mirror.url("a.bin"), other.url("a.bin")])
        epoch = download.epoch
        assert download.size() == 1000
        assert download.result().path.read_bytes() == DATA
        assert download.size() == len(DATA)
        with pytest.raises(WrongBytes):
            download.read(0, 1000, epoch)


def test_a_result_can_be_waited_for_in_vain(mirror: LoopbackMirror, store: Store, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(hang=True))
    with Downloads(store, http) as downloads, pytest.raises(TimeoutError, match=r"a\.bin"):
        downloads.want(WANTED, [mirror.url("a.bin")]).result(0.05)


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=0.01), Fault(stall=300_000), Fault(rate=50_000)])
def test_leaving_ends_all_transfers_and_keeps_what_came(
    mirror: LoopbackMirror, store: Store, http: HttpSettings, fault: Fault
) -> None:
    mirror.misbehave("*", fault)
    with Downloads(store, http) as downloads:
        download = downloads.want(WANTED, [mirror.url("a.bin")])
        if fault.hang or fault.drip:
            until(lambda: mirror.requests)
        else:
            download.read(0, 1)
    assert [thread for thread in ours() if thread.name != "i2v-http"] == []
    with pytest.raises(MirrorError, match=r"the download of a\.bin was ended"):
        download.result()
    mirror.misbehave("*", None)
    kept = sum(downloads.received.values())
    with Downloads(store, http) as second:
        assert second.want(WANTED, [mirror.url("a.bin")]).result().bytes_fetched <= len(DATA) - kept + 16_384


def test_a_file_that_another_has_is_waited_for_without_blocking(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    small = hashlib.sha256(b"b").hexdigest()
    mirror.add("b", b"b")
    with Downloads(store, http) as downloads:
        with store.incoming(WANTED.sha256) as partial:
            assert partial is not None
            busy = downloads.want(WANTED, [mirror.url("a.bin")])
            assert downloads.want(Artifact("b", 1, small), [mirror.url("b")]).result().bytes_fetched == 1
            partial.write(0, DATA, "a:1")
            partial.publish()
        assert busy.result().source == "store"
    assert mirror.requested("*a.bin") == []


def test_two_downloads_of_one_process_fetch_it_once(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(rate=2_000_000))
    urls = [mirror.url("a.bin")]
    with Downloads(store, http) as one, Downloads(store, http) as two:
        results = [one.want(WANTED, urls).result(), two.want(WANTED, urls).result()]
    assert sorted(result.bytes_fetched for result in results) == [0, len(DATA)]


def test_a_file_that_somebody_reads_comes_before_the_larger_ones(
    mirror: LoopbackMirror, store: Store, http: HttpSettings
) -> None:
    mirror.misbehave("*", Fault(rate=250_000))
    large = random.Random(3).randbytes(20_000_000)
    sha256 = mirror.add("large", large)
    with Downloads(store, http) as downloads:
        first = downloads.want(Artifact("large", len(large), sha256), [mirror.url("large")])
        until(lambda: len(mirror.requests) == 4)
        download = downloads.want(WANTED, [mirror.url("a.bin")])
        reader = threading.Thread(target=lambda: download.read(0, 1))
        reader.start()
        mirror.misbehave("*", Fault(rate=2_000_000))
        reader.join()
        assert first.path is None


def test_a_file_that_somebody_reads_does_not_wait_for_its_turn(
    mirror: LoopbackMirror, other: LoopbackMirror, store: Store, http: HttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "AT_ONCE", 1)
    mirror.misbehave("*large", Fault(stall=10))
    sha256 = mirror.add("large", DATA * 2)
    with Downloads(store, http) as downloads:
        downloads.want(Artifact("large", 2 * len(DATA), sha256), [mirror.url("large")])
        until(lambda: mirror.requested("*large"))
        assert read_all(downloads.want(WANTED, [other.url("a.bin")])) == DATA


def test_a_mirror_that_dies_is_made_up_for(store: Store, http: HttpSettings, mirror: LoopbackMirror) -> None:
    with LoopbackMirror() as mortal:
        mortal.add("a.bin", DATA)
        for server in (mortal, mirror):
            server.misbehave("*", Fault(rate=500_000))
        with Downloads(store, http) as downloads:
            download = downloads.want(WANTED, [mortal.url("a.bin"), mirror.url("a.bin")])
            until(lambda: downloads.received.get(mortal.base.removeprefix("http://"), 0) > 100_000)
            mortal.kill()
            mirror.misbehave("*", None)
            assert download.result().path.read_bytes() == DATA


@pytest.mark.parametrize("seed", range(100))
def test_a_mirror_that_breaks_or_stalls_anywhere_costs_no_byte_twice(
    seed: int,
    mirror: LoopbackMirror,
    other: LoopbackMirror,
    store: Store,
    http: HttpSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "STALL", 0.1)
    monkeypatch.setattr(crew, "TICK", 0.02)
    dice = random.Random(seed)
    data = DATA[: dice.randrange(300_000, len(DATA))]
    artifact = Artifact("x", len(data), hashlib.sha256(data).hexdigest())
    for server in (mirror, other):
        server.add("x", data)
    point = dice.randrange(len(data))
    mirror.misbehave("*", Fault(stall=point) if dice.random() < 0.5 else Fault(truncate=point))
    urls = [mirror.url("x"), other.url("x")]
    dice.shuffle(urls)
    with Downloads(store, http) as downloads:
        fetched = downloads.want(artifact, urls).result()
    assert fetched.path.read_bytes() == data
    assert fetched.bytes_fetched <= len(data) + (1 << 20)
