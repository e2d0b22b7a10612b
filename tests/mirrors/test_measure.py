"""The measuring as a whole: who gets how much of it, where the bytes go, and when it ends."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.http import HttpSettings
from mirrors.probe import PROBE_BYTES, Wanted, measure
from mirrors.probing.measurement import Measurement
from mirrors.ranges import Ranges
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror

NAME = "torch-2.13.0-py3-none-any.whl"
WHEEL = b"PK\x03\x04" + random.Random(0).randbytes(6_000_000)
SHA256 = hashlib.sha256(WHEEL).hexdigest()
WANTED = Wanted("torch", NAME, SHA256, len(WHEEL))
UNSIZED = dataclasses.replace(WANTED, size=None)
FILE = "/files/torch*"
FOREVER = 300.0  # a deadline that no test waits for
ENDLESS = 10**13  # so many bytes are wanted that every mirror is waited for


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def servers() -> Iterator[list[LoopbackMirror]]:
    """Six mirrors that have the file."""
    with ExitStack() as stack:
        found = [stack.enter_context(LoopbackMirror()) for _ in range(6)]
        for server in found:
            server.add(NAME, WHEEL)
        yield found


def row(server: LoopbackMirror, name: str = "some", **changes: Any) -> Mirror:
    return dataclasses.replace(catalogue.adhoc(server.index_url, name), **changes)


def netloc(server: LoopbackMirror) -> str:
    return server.base.removeprefix("http://")


def asked_for(server: LoopbackMirror) -> list[tuple[int, int]]:
    """The parts of the file that a server was asked for."""
    ranges = [seen.headers["range"].removeprefix("bytes=").split("-") for seen in server.requested(FILE)]
    return [(int(start), int(end) + 1) for start, end in ranges]


def in_store(store: Store, sha256: str = SHA256) -> tuple[Ranges, dict[str, Ranges]]:
    """What of the file is in the store, and from whom. All of it is right."""
    with store.incoming(sha256) as partial:
        assert partial is not None
        assert all(partial.read(start, end) == WHEEL[start:end] for start, end in partial.have)
        return partial.have, partial.sources()


def run(
    servers: Sequence[LoopbackMirror], http: HttpSettings, store: Store | None, wanted: Wanted = WANTED, **options: Any
) -> list[Measurement]:
    options = {"amount": ENDLESS, "deadline": FOREVER, **options}
    return measure([row(server) for server in servers], wanted, http, store=store, **options)


def test_every_mirror_reads_a_part_of_its_own_and_all_of_it_is_kept(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    found = run(servers, http, store)
    have, sources = in_store(store)
    asked = [part for server in servers for part in asked_for(server)]
    assert sum(end - start for start, end in asked) == Ranges(asked).total
    assert sum(it.probe_bytes for it in found) == sum(it.kept for it in found) == have.total
    assert set(sources) == {netloc(server) for server in servers}
    assert all(sources[netloc(server)].total == it.kept for server, it in zip(servers, found, strict=True))


def test_what_an_earlier_run_left_is_not_read_again(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(100_000, WHEEL[100_000:3_000_000], "earlier")
    run(servers, http, store)
    before = Ranges([(100_000, 3_000_000)])
    assert not any(before.within(*part) for server in servers for part in asked_for(server))
    assert in_store(store)[1]["earlier"].total == 2_900_000


def test_the_best_four_are_measured_over_several_connections(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    for server in servers[:2]:
        server.misbehave(FILE, Fault(rate=200_000))
    found = run(servers, http, store)
    assert [len(asked_for(server)) for server in servers[:2]] == [1, 1]
    assert [it.connections for it in found[:2]] == [1, 1]
    assert all(len(asked_for(server)) == 5 for server in servers[2:])
    assert all(it.verdict == "good" for it in found)


def test_nobody_is_asked_for_more_than_is_decent(http: HttpSettings, store: Store) -> None:
    big = b"PK" + bytes(40_000_000)
    with LoopbackMirror() as server:
        sha256 = server.add(NAME, big)
        (found,) = run([server], http, store, Wanted("torch", NAME, sha256, len(big)))
        assert len(server.requests) == found.requests <= 6
        assert found.probe_bytes <= sum(end - start for start, end in asked_for(server)) <= 16 << 20
        assert found.probe_bytes > PROBE_BYTES


def test_a_published_limit_of_requests_is_kept(mirror: LoopbackMirror, http: HttpSettings, store: Store) -> None:
    mirror.add(NAME, WHEEL)
    rows = [row(mirror, requests_per_minute=3)]
    (found,) = measure(rows, WANTED, http, amount=ENDLESS, store=store, deadline=FOREVER)
    assert (found.verdict, found.requests, len(mirror.requests)) == ("good", 3, 3)


def test_where_nothing_is_to_be_installed_nobody_is_asked_twice(
    servers: list[LoopbackMirror], http: HttpSettings
) -> None:
    found = run(servers, http, None, amount=0)
    assert [it.requests for it in found] == [2] * 6
    assert [it.kept for it in found] == [0] * 6


def test_one_that_hangs_is_not_waited_for_until_the_deadline(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].misbehave("/simple/*", Fault(hang=True))
    servers[1].misbehave(FILE, Fault(hang=True))
    patient = HttpSettings(read_timeout=FOREVER, response_timeout=FOREVER)
    found = run(servers, patient, store, amount=len(WHEEL))
    assert [it.verdict for it in found[:2]] == ["unusable", "unusable"]
    assert "good" in [it.verdict for it in found[2:]]
    assert found[0].reason.startswith("does not answer within ")
    assert found[1].reason.startswith("lists torch 2.13.0 and does not send it within ")
    assert netloc(servers[1]) not in in_store(store)[1]


def test_one_that_is_slow_is_usable_and_what_it_brought_is_kept(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].misbehave(FILE, Fault(rate=30_000))
    found = run(servers, http, store, amount=len(WHEEL))
    assert found[0].verdict == "good"
    assert found[0].rate is not None
    assert found[0].rate < 200_000
    assert 0 < found[0].probe_bytes < PROBE_BYTES
    assert in_store(store)[1][netloc(servers[0])].total == found[0].kept > 0


def test_one_that_breaks_off_is_out_and_nothing_of_it_is_kept(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].misbehave(FILE, Fault(truncate=50_000))
    found = run(servers, http, store)
    assert found[0].reason == "ends the body before its announced length"
    assert netloc(servers[0]) not in in_store(store)[1]


def test_a_size_that_most_others_do_not_have_is_out(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].add(NAME, WHEEL + b"more", listed_sha256=SHA256)
    found = run(servers, http, store, UNSIZED)
    assert found[0].reason == f"has a file of {len(WHEEL) + 4} bytes where that of most others has {len(WHEEL)}"
    assert [it.verdict for it in found[1:]] == ["good"] * 5
    assert netloc(servers[0]) not in in_store(store)[1]


def test_upstream_knows_the_size_better_than_most_others(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    rows = [row(servers[0], "Upstream", upstream=True), row(servers[1]), row(servers[2])]
    for server in servers[1:3]:
        server.add(NAME, WHEEL + b"more", listed_sha256=SHA256)
    found = measure(rows, UNSIZED, http, amount=ENDLESS, store=store, deadline=FOREVER)
    assert [it.verdict for it in found] == ["good", "unusable", "unusable"]
    assert found[1].reason == f"has a file of {len(WHEEL) + 4} bytes where upstream's has {len(WHEEL)}"


def test_of_two_that_disagree_on_the_size_neither_is_out(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].add(NAME, WHEEL + b"more", listed_sha256=SHA256)
    assert [it.verdict for it in run(servers[:2], http, store, UNSIZED)] == ["good", "good"]


def test_a_file_that_is_shorter_than_was_thought_is_read_where_it_is(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    small = WHEEL[:300_000]
    for server in servers:
        sha256 = server.add(NAME, small)
    found = run(servers, http, store, Wanted("torch", NAME, sha256))
    assert [it.verdict for it in found] == ["good"] * 6
    with store.incoming(sha256) as partial:
        assert partial is not None
        assert list(partial.have) == [(0, len(small))]
        assert partial.complete


@pytest.mark.parametrize(
    "lie", [Fault(headers={"Content-Range": "bytes 0-0/1"}), Fault(status=416, headers={"Content-Range": "bytes */1"})]
)
def test_one_that_lies_of_the_size_and_is_first_puts_nobody_else_out(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store, lie: Fault
) -> None:
    servers[0].misbehave(FILE, lie)
    for server in servers[1:4]:
        server.misbehave("/simple/*", Fault(rate=2000))  # so that they come later
    found = run(servers[:4], http, store, UNSIZED)
    assert [it.verdict for it in found] == ["unusable", "good", "good", "good"]
    assert all(it.probe_bytes >= PROBE_BYTES for it in found[1:])
    in_store(store)


def test_of_many_hashes_that_the_lock_allows_the_listed_one_names_the_bytes(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].add(NAME, WHEEL, listed_sha256=None)  # known by its name, which the others list with a hash
    wanted = Wanted("torch", None, frozenset({SHA256, "0" * 64}), version="2.13.0")
    found = run(servers, http, store, wanted)
    assert all(it.verdict == "good" and it.kept for it in found)
    assert netloc(servers[0]) in in_store(store)[1]


def test_bytes_of_a_file_that_nobody_can_name_are_not_kept(
    mirror: LoopbackMirror, http: HttpSettings, store: Store
) -> None:
    mirror.add(NAME, WHEEL, listed_sha256=None)
    wanted = Wanted("torch", None, frozenset({SHA256, "0" * 64}), version="2.13.0")
    (found,) = run([mirror], http, store, wanted)
    assert (found.verdict, found.kept) == ("good", 0)
    assert found.probe_bytes
    assert not list(store.objects())


def test_a_file_that_another_process_is_fetching_is_measured_and_not_touched(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    with store.incoming(SHA256) as partial:
        found = run(servers, http, store)
        assert partial is not None
        assert not partial.have
    assert [(it.verdict, it.kept) for it in found] == [("good", 0)] * 6


def test_a_file_that_is_in_the_store_is_read_no_more_than_needs_be(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(WHEEL)
    store.add(tmp_path / NAME)
    assert [(it.verdict, it.requests, it.kept) for it in run(servers, http, store)] == [("good", 2, 0)] * 6


def test_one_that_knows_no_ranges_gets_one_connection(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].misbehave(FILE, Fault(ignore_range=True))
    found = run(servers, http, store)
    assert (found[0].verdict, found[0].requests) == ("good", 2)
    in_store(store)


def test_wrong_bytes_are_kept_under_the_name_of_who_gave_them(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].add(NAME, WHEEL[:4] + bytes(len(WHEEL) - 4), listed_sha256=SHA256)
    run(servers, http, store)
    with store.incoming(SHA256) as partial:
        assert partial is not None
        wrong = [part for part in partial.have if partial.read(*part) != WHEEL[part[0] : part[1]]]
        theirs = partial.sources()[netloc(servers[0])]
        assert wrong
        for start, end in theirs:
            partial.forget(start, end)
        assert all(partial.read(*part) == WHEEL[part[0] : part[1]] for part in partial.have)


def test_numbers_without_end_in_the_second_round_are_one_connection_less(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].misbehave(FILE, Fault(status=416, headers={"Content-Range": f"bytes */{'9' * 5000}"}))
    servers[0].misbehave("/files/*", Fault(rate=1e9, times=1))  # what is asked first
    (found,) = run(servers[:1], http, store, UNSIZED, deadline=5.0)
    assert (found.verdict, found.connections, found.rate) == ("good", 1, found.single_rate)
    assert len(servers[0].requests) > 2


def test_one_that_wants_no_more_connections_keeps_its_first_rate(
    servers: list[LoopbackMirror], http: HttpSettings, store: Store
) -> None:
    servers[0].misbehave(FILE, Fault(status=429, headers={"Retry-After": "60"}))
    servers[0].misbehave("/files/*", Fault(rate=1e9, times=1))  # what is asked first
    (found,) = run(servers[:1], http, store)
    assert (found.verdict, found.connections, found.rate) == ("good", 1, found.single_rate)
    assert len(servers[0].requests) <= 6  # nobody who said 429 is asked again
