from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console as RichConsole

from bootstrap import deployments, report_json, state
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.recorder import Recorder
from bootstrap.report import Section
from bootstrap.reporting import shown
from mirrors.artifact import FLOW_SECONDS
from mirrors.fetch import Artifact, Downloads
from mirrors.http import HttpSettings
from mirrors.store import Store
from tests.bootstrap.deployments import FIRST, INSTALL
from tests.conftest import ROOT
from tests.mirrors.loopback import Fault, LoopbackMirror


@pytest.fixture
def http() -> HttpSettings:
    return HttpSettings(read_timeout=5.0, response_timeout=5.0)


def test_phases_are_timed_in_order_and_may_say_what_they_moved() -> None:
    recorder = Recorder("install", model="demo")
    with recorder.phase("first", "the first") as measured:
        measured.bytes, measured.source = 5, "tuna"
    with recorder.phase("second", "the second"):
        pass
    section = recorder.section()
    assert [timing.phase for timing in section.timings] == ["first", "second"]
    assert (section.timings[0].bytes, section.timings[0].source) == (5, "tuna")
    assert section.timings[1].started >= section.timings[0].started + section.timings[0].seconds
    assert section.seconds >= sum(timing.seconds for timing in section.timings)


def test_a_phase_that_fails_is_not_recorded() -> None:
    recorder = Recorder("install")
    with pytest.raises(ValueError, match="no"), recorder.phase("first", "the first"):
        raise ValueError("no")
    assert recorder.section().timings == ()


def test_a_generation_joins_the_last_deployment_and_a_new_install_begins_another(home: Path) -> None:
    here = state.home()
    first = deployments.save(here, INSTALL)
    deployments.save(here, Section("generate", INSTALL.began, 3.0, (), {"model": "demo"}))
    joined = deployments.save(here, Section("generate", INSTALL.began, 2.0, (), {"model": "demo"}))
    assert joined.id == first.id
    assert [(section.kind, section.seconds) for section in joined.sections] == [("install", 40.0), ("generate", 2.0)]
    second = deployments.save(here, INSTALL)
    assert second.id != first.id
    assert deployments.find_last(here) == second
    assert len(list(here.deployments.glob("*.json"))) == 2


def test_a_damaged_report_is_passed_over(home: Path) -> None:
    here = state.home()
    saved = deployments.save(here, INSTALL)
    (here.deployments / "99990101T000000Z-0000.json").write_text('{"half": ', encoding="utf-8")
    assert deployments.find_last(here) == saved


def damaged() -> Iterator[object]:
    """A whole report with one value after the other replaced by something odd."""
    few = replace(INSTALL, timings=INSTALL.timings[5:8], files=INSTALL.files[:1], upstreams=INSTALL.upstreams[:1])
    document = json.loads(report_json.write(replace(FIRST, sections=(few,))))

    def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            yield (*path, key)
            yield from places(child, (*path, key))

    for path in list(places(document)):
        for wrong in (float("nan"), float("inf"), -1, 0, None, "", "<b>[red]\x1b[31m", [None], {"a": None}):
            copy = json.loads(json.dumps(document))
            holder = copy
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = wrong
            yield copy


def test_what_can_be_read_can_be_shown_whatever_is_wrong_with_it() -> None:
    read = refused = 0
    for document in damaged():
        try:
            found = report_json.read(json.dumps(document))
        except ValueError:
            refused += 1
            continue
        read += 1
        json.loads(shown.One(found).trace("zh"), parse_constant=pytest.fail)
        json.dumps(shown.One(found).data(), allow_nan=False)
        RichConsole(file=StringIO()).print(shown.One(found).table("en"))
        pages = shown.One(found).html("en") + shown.Two(FIRST, found).html("zh")
        assert "<b>[" not in pages
    assert read  # a name may be any text
    assert refused > read


def test_no_report_yet_is_told_with_what_to_do(home: Path) -> None:
    with pytest.raises(SetupError) as caught:
        deployments.find(state.home(), "last")
    assert "install" in caught.value.hint


def test_everything_is_read_as_it_was_written(home: Path) -> None:
    here = state.home()
    saved = deployments.save(here, INSTALL)
    assert saved.sections == (INSTALL,)
    assert deployments.find(here, saved.id) == saved


def test_what_another_version_wrote_is_read(home: Path) -> None:
    here = state.home()
    deployments.save(here, INSTALL)
    older = {
        "id": "20250102T030405-000000",
        "sections": [
            {
                "kind": "install",
                "began": "2025-01-02T03:04:05+00:00",
                "seconds": 3,
                "timings": [
                    {"phase": "packages", "title": "t", "started": 1, "seconds": 2, "bytes": None, "source": "tuna"}
                ],
                "facts": {},
                "something": "that we do not know",
            }
        ],
    }
    (here.deployments / f"{older['id']}.json").write_text(json.dumps(older), encoding="utf-8")
    (section,) = deployments.find(here, "2025").sections
    assert (section.timings[0].source, section.timings[0].sources, section.files) == ("tuna", {}, ())


def test_the_last_hundred_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "KEPT", 3)
    here = state.home()
    ids = [deployments.save(here, INSTALL).id for _ in range(5)]
    assert [found.id for found in deployments.kept(here)] == ids[:1:-1]


def test_a_deployment_is_found_by_a_part_of_its_id_or_by_its_place(home: Path) -> None:
    here = state.home()
    first, second, third = (deployments.save(here, INSTALL) for _ in range(3))
    assert deployments.find(here, "last") == third
    assert deployments.find(here, "previous") == second
    assert deployments.find(here, first.id) == first
    assert deployments.find(here, third.id[:-1]) in (first, second, third)
    with pytest.raises(UsageProblem, match="3 deployments begin"):
        deployments.find(here, "20")
    with pytest.raises(UsageProblem, match="no deployment 'x'") as caught:
        deployments.find(here, "x")
    assert "--list" in caught.value.hint


def test_what_was_fetched_is_recorded_with_its_true_times(tmp_path: Path, http: HttpSettings) -> None:
    recorder, data = Recorder("install"), bytes(range(256)) * 8000
    with (
        LoopbackMirror() as mirror,
        LoopbackMirror() as other,
        Downloads(Store(tmp_path / "store"), http) as downloads,
        recorder.phase("weights", "fetch"),
    ):
        for server in (mirror, other):
            sha256 = server.add("a.bin", data)
        mirror.misbehave("*", Fault(status=503, times=1))
        downloads.want(Artifact("a.bin", len(data), sha256), [mirror.url("a.bin"), other.url("a.bin")]).result()
    recorder.fetched("weights", downloads)
    section = recorder.section()
    whole, download, verify = section.timings
    assert [timing.phase for timing in section.timings] == ["weights", "weights.download", "weights.verify"]
    for part in (download, verify):
        assert whole.started <= part.started <= part.ended <= whole.ended
    assert download.bytes == sum(download.sources.values()) >= len(data)
    assert download.retries
    assert verify.busy is not None
    assert 0 < verify.busy <= verify.seconds
    (file,) = section.files
    assert download.started <= file.started <= file.first <= file.last == pytest.approx(download.ended)
    assert sum(sum(flow.bytes) for flow in section.flows) == download.bytes
    assert all(whole.started - FLOW_SECONDS <= flow.started <= whole.ended for flow in section.flows)


def test_what_was_here_already_is_no_download(tmp_path: Path, http: HttpSettings) -> None:
    store = Store(tmp_path / "store")
    for expected in (["packages.download", "packages.verify"], []):
        recorder = Recorder("install")
        with LoopbackMirror() as mirror, Downloads(store, http) as downloads:
            wanted = Artifact("a.bin", 4, mirror.add("a.bin", b"data"))
            downloads.want(wanted, [mirror.url("a.bin")]).result()
        recorder.fetched("packages", downloads)
        assert [timing.phase for timing in recorder.section().timings] == expected


def test_the_time_in_which_a_person_was_asked_does_not_count() -> None:
    recorder, real = Recorder("install"), time.monotonic()
    before = recorder.elapsed
    with recorder.paused():
        time.sleep(0.2)
    assert recorder.elapsed - before <= time.monotonic() - real - 0.2


def test_lanes_may_record_at_once() -> None:
    recorder = Recorder("install")

    def record(name: str) -> None:
        for number in range(200):
            with recorder.phase(f"{name}{number}", name):
                pass

    lanes = [threading.Thread(target=record, args=(name,)) for name in ("a", "b", "c")]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert len(recorder.section().timings) == 600


def test_a_command_of_its_own_process_counts_from_the_start_of_the_process() -> None:
    code = (
        "import time; time.sleep(0.3)\n"  # as heavy imports do
        "from bootstrap import startup\nfrom bootstrap.recorder import Recorder\n"
        "startup.own_process()\nfirst = Recorder('install').section().timings[0]\n"
        "print(first.phase, first.started, first.seconds > 0.3)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["start", "0.0", "True"]


def test_a_guest_in_another_process_counts_from_its_own_start() -> None:
    recorder = Recorder("install")
    assert recorder.section().timings == ()
    assert replace(recorder.section(), seconds=0.0, began="").kind == "install"


def test_a_fetch_that_takes_hours_is_kept_in_few_numbers() -> None:
    hours = {1000.0 + slot * FLOW_SECONDS: 5 for slot in range(50_000)}
    recorder = Recorder("install")
    told = SimpleNamespace(fetched=(), flow={"a": hours, "b": {2000.0: 7}})
    recorder.fetched("weights", cast(Downloads, told))
    first, second = recorder.section().flows
    assert len(first.bytes) <= 1001
    assert sum(first.bytes) == 5 * 50_000
    assert (second.step, second.bytes) == (first.step, (7,))
    assert first.started <= second.started <= first.started + 1000 + first.step
