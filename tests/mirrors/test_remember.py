"""Choices that are remembered, and confirmed by one request."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.choose import Choice, choose
from mirrors.http import HttpSettings
from mirrors.index import Listed
from mirrors.probing.measurement import Measurement, Wanted
from mirrors.remember import MAX_AGE, Remembered, select
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror

NAME = "torch-2.13.0-py3-none-any.whl"
WHEEL = b"PK\x03\x04" + random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(WHEEL).hexdigest()
WANTED = Wanted("torch", None, frozenset({SHA256, "0" * 64}), len(WHEEL), version="2.13.0")
KEY = "network plan"
ENDLESS = 10**13  # so many bytes are wanted that every mirror is waited for


@pytest.fixture(autouse=True)
def _stocked(mirror: LoopbackMirror, other: LoopbackMirror) -> None:
    for server in (mirror, other):
        server.add(NAME, WHEEL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "choices.json"


class Site:
    """A machine that selects mirrors again and again, with an empty store each time."""

    def __init__(self, mirrors: list[Mirror], http: HttpSettings, path: Path, stores: Path) -> None:
        self.mirrors, self.http, self.remembered, self.stores = mirrors, http, Remembered(path), stores
        self.times = 0

    @property
    def store(self) -> Store:
        return Store(self.stores / str(self.times))

    def select(self, wanted: Wanted = WANTED, key: str = KEY) -> Choice:
        self.times += 1
        return select(
            self.mirrors,
            wanted,
            self.http,
            amount=ENDLESS,
            store=self.store,
            remembered=self.remembered,
            key=key,
        )


@pytest.fixture
def site(mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings, path: Path, tmp_path: Path) -> Site:
    mirrors = [catalogue.adhoc(server.index_url, name) for server, name in ((mirror, "here"), (other, "there"))]
    return Site(mirrors, http, path, tmp_path / "stores")


def slower(path: Path, factor: float) -> None:
    """Let the file say that all mirrors were faster than they are."""
    document = json.loads(path.read_text())
    for row in document["choices"][KEY]["sources"]:
        row["single_rate"] *= factor
    path.write_text(json.dumps(document))


def test_a_remembered_choice_costs_one_request_and_no_page(
    site: Site, path: Path, mirror: LoopbackMirror, other: LoopbackMirror
) -> None:
    first = site.select()
    slower(path, 0.001)  # so that a busy machine does not count as a slow mirror
    mirror.requests.clear()
    other.requests.clear()
    again = site.select()
    assert {source.mirror.name for source in again.sources} == {source.mirror.name for source in first.sources}
    (seen,) = mirror.requests + other.requests
    assert seen.path == f"/files/{NAME}"
    assert again.reason.endswith("; as measured before")
    with site.store.incoming(SHA256) as partial:
        assert partial is not None
        assert partial.have.total == again.sources[0].kept > 0


def test_another_plan_or_network_is_measured(site: Site, mirror: LoopbackMirror) -> None:
    site.select()
    mirror.requests.clear()
    site.select(key="another")
    assert mirror.requested("/simple/*")


@pytest.mark.parametrize("fault", [Fault(status=404), Fault(status=403), Fault(portal=True), Fault(truncate=100)])
def test_a_best_one_that_no_longer_serves_is_measured_anew(
    site: Site, path: Path, mirror: LoopbackMirror, other: LoopbackMirror, fault: Fault
) -> None:
    best = site.select().sources[0].mirror
    slower(path, 0.001)
    document = json.loads(path.read_text())
    document["choices"][KEY]["sources"] = document["choices"][KEY]["sources"][:1]
    path.write_text(json.dumps(document))
    server = mirror if best.name == "here" else other
    server.misbehave("/files/*", fault)
    choice = site.select()
    assert [source.mirror.name for source in choice.sources] == [{"here": "there", "there": "here"}[best.name]]


def test_one_that_has_become_slow_is_measured_anew(site: Site, path: Path, mirror: LoopbackMirror) -> None:
    site.select()
    slower(path, 1000)
    mirror.requests.clear()
    site.select()
    assert mirror.requested("/simple/*")


def test_a_choice_is_forgotten_after_a_week_or_when_told(site: Site, path: Path) -> None:
    site.select()
    document = json.loads(path.read_text())
    document["choices"][KEY]["at"] -= MAX_AGE + 1
    path.write_text(json.dumps(document))
    assert site.remembered.recall(KEY, site.mirrors) == ()
    site.select()
    assert site.remembered.recall(KEY, site.mirrors)
    site.remembered.forget(KEY)
    assert site.remembered.recall(KEY, site.mirrors) == ()


def test_a_choice_from_the_future_is_not_believed(site: Site, path: Path) -> None:
    site.select()
    document = json.loads(path.read_text())
    document["choices"][KEY]["at"] += 10_000
    path.write_text(json.dumps(document))
    assert site.remembered.recall(KEY, site.mirrors) == ()


def _changed(**changes: Any) -> str:
    row = {
        "mirror": ["pypi", "https://a.example/simple"],
        "latency": 0.1,
        "rate": 1e6,
        "single_rate": 1e6,
        "connections": 4,
        "file": [NAME, "https://a.example/x.whl", SHA256, 5],
    }
    return json.dumps({"choices": {KEY: {"at": 4e12, "sources": [{**row, **changes}]}}})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "null",
        "[]",
        '{"choices": 3}',
        '{"choices": {"network plan": []}}',
        '{"choices": {"network plan": {"at": 1}}}',
        _changed(mirror=3),
        _changed(rate="fast"),
        _changed(rate=-1),
        _changed(latency=[]),
        _changed(file=["a"]),
        _changed(file=[NAME, 3, SHA256, 5]),
        _changed(connections=None),
    ],
)
def test_content_that_is_not_ours_is_ignored(path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirrors.remember.time.time", lambda: 4e12 + 1)
    path.parent.mkdir()
    path.write_text(content)
    remembered = Remembered(path)
    mirror = catalogue.adhoc("https://a.example/simple")
    assert remembered.recall(KEY, [mirror]) == ()
    remembered.keep("other", choose([measured(mirror)], 1))
    assert remembered.recall("other", [mirror])


def measured(mirror: Mirror, url: str = "https://a.example/x.whl") -> Measurement:
    return Measurement(mirror, 0.1, 1e6, "good", "is good", 2, 0, Listed(NAME, url, SHA256, 5), 4, 1e6)


def test_credentials_are_not_written_and_come_back_from_the_candidate(path: Path) -> None:
    secret = catalogue.adhoc("https://user:secret@a.example/simple")
    remembered = Remembered(path)
    remembered.keep(KEY, choose([measured(secret, "https://user:secret@a.example/x.whl")], 1))
    assert "secret" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    new = catalogue.adhoc("https://user:new@a.example/simple")
    (found,) = remembered.recall(KEY, [new])
    assert found.mirror is new
    assert found.url == "https://user:new@a.example/x.whl"


def test_a_signed_address_elsewhere_is_not_remembered(path: Path) -> None:
    mirror = catalogue.adhoc("https://a.example/simple")
    remembered = Remembered(path)
    remembered.keep(KEY, choose([measured(mirror, "https://cdn.example/x.whl?signature=secret")], 1))
    assert "secret" not in path.read_text()
    assert remembered.recall(KEY, [mirror]) == ()


def test_one_that_is_no_candidate_any_more_is_left_out(path: Path) -> None:
    gone, here = catalogue.adhoc("https://gone.example/simple"), catalogue.adhoc("https://a.example/simple")
    remembered = Remembered(path)
    remembered.keep(KEY, choose([measured(gone), measured(here)], 1))
    assert [found.mirror for found in remembered.recall(KEY, [here])] == [here]


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    remembered = Remembered(tmp_path / "file" / "choices.json")
    mirror = catalogue.adhoc("https://a.example/simple")
    remembered.keep(KEY, choose([measured(mirror)], 1))
    assert remembered.recall(KEY, [mirror]) == ()


def test_processes_that_write_at_once_leave_a_whole_file(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mirrors import catalogue; from mirrors.choose import Choice;"
        "from mirrors.remember import Remembered; mirror = catalogue.adhoc('https://a.example/simple');"
        "remembered = Remembered(Path(sys.argv[1]));"
        "[remembered.keep(sys.argv[2] + str(n), Choice(mirror, 'x' * n, ())) for n in range(40)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(json.loads(path.read_text())["choices"]) >= 40
    assert list(path.parent.iterdir()) == [path]


def test_a_model_file_is_confirmed_at_its_own_address(
    site: Site, path: Path, mirror: LoopbackMirror, other: LoopbackMirror
) -> None:
    for server in (mirror, other):
        server.add("model.bin", WHEEL, project=None)
    site.mirrors = [dataclasses.replace(row, kind="hub", layout="huggingface") for row in site.mirrors]
    wanted = Wanted(
        "repo", "model.bin", SHA256, len(WHEEL), address=lambda hub: hub.url.replace("/simple", "/files/model.bin")
    )
    site.select(wanted)
    slower(path, 0.001)
    mirror.requests.clear()
    other.requests.clear()
    site.select(wanted)
    assert [seen.path for seen in mirror.requests + other.requests] == ["/files/model.bin"]
