"""From pins to wheels in the store, through mirrors on loopback; and what is at hand without asking."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import packages, state, wheels
from bootstrap.packages import PackageSources
from bootstrap.pip_settings import PipSettings
from mirrors import catalogue
from mirrors.choose import Choice
from mirrors.errors import FetchFailed
from mirrors.http import HttpSettings
from mirrors.index import Listed
from mirrors.lock import Pin
from mirrors.probe import Measurement
from mirrors.resolve import Index
from mirrors.rows import Kind
from mirrors.tags import supported
from tests.mirrors.loopback import Fault, LoopbackMirror
from tests.small_wheels import locked, small_wheel

HTTP = HttpSettings(connect_timeout=2, response_timeout=5)
TAGS = supported("3.11")
WHEELS = dict(small_wheel(name, size=100_000) for name in ("alpha", "beta"))
PINS = [
    Pin(wheel.project, wheel.version, frozenset({wheel.artifact.sha256}))
    for wheel in map(locked, *zip(*WHEELS.items(), strict=True))
]


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as mirror:
        for filename, data in WHEELS.items():
            mirror.add(filename, data)
            mirror.keep_as_pypi(filename)
        yield mirror


def sources(*servers: LoopbackMirror) -> PackageSources:
    indexes = tuple(Index(catalogue.adhoc(server.index_url)) for server in servers)
    return PackageSources("loopback", servers[0].index_url, indexes=indexes)


def bring(home: state.Home, server: LoopbackMirror) -> int:
    found = wheels.find(home, PINS, TAGS, sources(server), HTTP)
    here: list[int] = []
    fetched = wheels.bring(home, found, sources(server), HTTP, here.append)
    wheels.learn(home, TAGS, found)
    assert sum(here) == wheels.size(found) == sum(map(len, WHEELS.values()))
    return wheels.received(one.per_source for one in fetched)[0]


def test_wheels_come_into_the_store_once_and_are_at_hand_from_then_on(home: Path, mirror: LoopbackMirror) -> None:
    here = state.home()
    assert wheels.at_hand(here, PINS, TAGS, ()) is None
    assert bring(here, mirror) == sum(map(len, WHEELS.values()))
    found = wheels.at_hand(here, PINS, TAGS, ())
    assert found is not None
    assert {name: path.read_bytes() for name, path in wheels.paths(here, found).items()} == WHEELS
    assert bring(here, mirror) == 0


def test_a_stored_wheel_that_was_changed_since_is_removed_and_fetched_again(home: Path, mirror: LoopbackMirror) -> None:
    here = state.home()
    bring(here, mirror)
    found = wheels.at_hand(here, PINS, TAGS, ())
    assert found is not None
    assert not wheels.drop_damaged(here, found)
    changed = next(iter(wheels.paths(here, found).values()))
    changed.chmod(0o644)
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    assert wheels.drop_damaged(here, found)
    assert wheels.at_hand(here, PINS, TAGS, ()) is None
    assert bring(here, mirror) == changed.stat().st_size


def test_what_a_page_claims_of_a_size_neither_stops_the_fetch_nor_is_remembered(
    home: Path, mirror: LoopbackMirror
) -> None:
    with LoopbackMirror() as evil:
        for filename, data in WHEELS.items():
            evil.add(filename, data[:7], listed_sha256=hashlib.sha256(data).hexdigest())
        here, both = state.home(), sources(evil, mirror)
        found = wheels.find(here, PINS, TAGS, both, HTTP)
        with contextlib.suppress(FetchFailed):  # only the evil one was asked where the files lie
            wheels.bring(here, found, both, HTTP, lambda _: None)
        wheels.learn(here, TAGS, found)
    assert bring(here, mirror) > 0


def test_a_wheel_of_a_local_directory_is_neither_fetched_nor_copied(
    home: Path, mirror: LoopbackMirror, tmp_path: Path
) -> None:
    filename, data = next(iter(WHEELS.items()))
    (tmp_path / filename).write_bytes(data)
    local = packages.directories(PipSettings(find_links=(str(tmp_path),)))
    here, from_both = state.home(), PackageSources("both", "", indexes=(*local, *sources(mirror).indexes))
    found = wheels.find(here, PINS, TAGS, from_both, HTTP)
    fetched = wheels.bring(here, found, from_both, HTTP, lambda _: None)
    wheels.learn(here, TAGS, found)
    assert wheels.paths(here, found)[filename] == tmp_path / filename
    assert len(fetched) == len(WHEELS) - 1
    assert mirror.requested(f"*{filename}") == []
    assert wheels.at_hand(here, PINS, TAGS, ()) is None
    assert wheels.at_hand(here, PINS, TAGS, local) == found[:1] + (wheels.at_hand(here, PINS[1:], TAGS, ()) or ())


def test_wrong_bytes_from_the_only_mirror_are_an_error_and_nothing_is_at_hand(
    home: Path, mirror: LoopbackMirror
) -> None:
    mirror.misbehave("/packages/*", Fault(tamper=True))
    with pytest.raises(FetchFailed, match="other bytes"):
        bring(state.home(), mirror)
    assert wheels.at_hand(state.home(), PINS, TAGS, ()) is None


def measured(name: str, url: str, rate: float, kind: Kind = "pypi") -> Measurement:
    sample = Listed("sample-1.0-py3-none-any.whl", f"{url}/sample-1.0-py3-none-any.whl", None, None)
    return Measurement(catalogue.adhoc(url, name, kind), 0.1, rate, "good", "", 2, 0, sample)


def chosen(*found: Measurement) -> Choice:
    return Choice(found[0].mirror, "", found, found)


def test_wheels_are_taken_from_directories_then_the_measured_indexes_then_the_users_further_ones(
    tmp_path: Path,
) -> None:
    pip = PipSettings(
        extra_index_urls=("https://more.example/simple", "http://plain.example/simple"),
        find_links=(str(tmp_path), "https://flat.example/wheels"),
        trusted_hosts=("plain.example",),
    )
    best = measured("best", "https://u:secret@best.example/simple", 4e6)
    next_ = measured("next", "https://next.example/simple", 2e6)
    builds = measured("builds", "https://builds.example/whl/cpu", 1e6, "pytorch")
    made = packages.sources(pip, HTTP, chosen(best, next_), chosen(builds), None)
    assert [index.mirror.url for index in made.indexes] == [
        tmp_path.as_uri(),
        "https://u:secret@best.example/simple",
        "https://next.example/simple",
        "https://builds.example/whl/cpu",
        "https://more.example/simple",
        "https://flat.example/wheels",
    ]
    assert made.rates == {"best.example": 4e6, "next.example": 2e6, "builds.example": 1e6}
    assert made.label == "best (https://best.example/simple) and 2 more"
    assert "secret" not in repr(made)
