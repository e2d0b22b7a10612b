from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from bootstrap import page, present, report, state
from bootstrap.errors import SetupError
from bootstrap.report import Deployment, Recorder, Section, Timing

INSTALL = Section(
    "install",
    "2026-01-02T03:04:05+00:00",
    20.0,
    (Timing("packages", "install packages", 1.0, 15.0, 264_000_000, "tuna"), Timing("verify", "verify", 16.0, 4.0)),
    {"model": "demo"},
)


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
    first = report.save(here, INSTALL)
    report.save(here, Section("generate", INSTALL.began, 3.0, (), {"model": "demo"}))
    joined = report.save(here, Section("generate", INSTALL.began, 2.0, (), {"model": "demo"}))
    assert joined.id == first.id
    assert [(section.kind, section.seconds) for section in joined.sections] == [("install", 20.0), ("generate", 2.0)]
    second = report.save(here, INSTALL)
    assert second.id != first.id
    assert report.last(here) == second
    assert len(list(here.deployments.glob("*.json"))) == 2


def test_a_damaged_report_is_passed_over(home: Path) -> None:
    here = state.home()
    saved = report.save(here, INSTALL)
    (here.deployments / "99990101T000000Z-0000.json").write_text('{"half": ', encoding="utf-8")
    assert report.last(here) == saved


def test_no_report_yet_is_told_with_what_to_do(home: Path) -> None:
    with pytest.raises(SetupError) as caught:
        report.last(state.home())
    assert "install" in caught.value.hint


def test_the_json_holds_everything() -> None:
    document = json.loads(report.to_json(Deployment("id", (INSTALL,))))
    assert document["sections"][0]["timings"][0]["bytes"] == 264_000_000


def test_the_table_shows_each_phase_with_its_seconds_and_bytes() -> None:
    console = Console(width=120, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(present.report_table(Deployment("id", (INSTALL,))))
    text = console.export_text()
    console.file.close()
    assert "install packages" in text
    assert "15.0 s" in text
    assert "264.0 MB" in text


def test_the_page_is_self_contained_and_escapes_what_it_shows() -> None:
    hostile = Timing("fetch", "<script>alert(1)</script>", 0, 1, None, '"><img src=x>')
    text = page.render(Deployment("id", (INSTALL, Section("run", "now", 1, (hostile,), {"model": "<b>"}))))
    assert "<script" not in text
    assert "<img" not in text
    assert "<b>" not in text
    assert "http" not in text
    assert "left:5.00%;width:75.00%" in text


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        page.write(Deployment("id", (INSTALL,)), tmp_path / "missing" / "report.html")


@pytest.mark.parametrize(
    ("count", "text"), [(None, ""), (12, "12 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3.06e9, "3.1 GB")]
)
def test_sizes_are_in_powers_of_a_thousand(count: float | None, text: str) -> None:
    assert present.size(count) == text
