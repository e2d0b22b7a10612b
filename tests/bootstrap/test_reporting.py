"""How reports look for a terminal and for programs: sums, tables, comparison, prediction, trace, the command."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from bootstrap import deployments, report_json, state, units, upstreams
from bootstrap.report import LOCAL, Deployment, ImageLayer, Section, Timing, Upstream
from bootstrap.reporting import compare, page, predict, rows, shown, spans, tables, trace, words
from mirrors import catalogue
from mirrors.choose import Choice
from mirrors.index import Listed
from mirrors.probe import Measurement
from tests.bootstrap.deployments import FAST, FIRST, GENERATE, INSTALL, SECOND, SLOW
from tests.conftest import Invoke


def printed(table: RenderableType) -> str:
    console = Console(width=160, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(table)
    console.file.close()
    return console.export_text()


def test_moments_that_overlap_count_once() -> None:
    assert spans.union([(3, 4), (0, 1), (0.5, 2), (2, 2.5), (9, 9)]) == [(0, 2.5), (3, 4)]
    assert spans.seconds([(0, 2), (1, 3), (5, 6)]) == 4


def test_how_far_the_steps_cover_a_section_is_known() -> None:
    assert spans.covered(INSTALL) == pytest.approx(39.6)
    assert spans.covered(Section("run", "", 10.0, (Timing("late", "", 8.0, 5.0), Timing("a.part", "", 0, 8)))) == 2.0


def test_parts_follow_their_step_and_the_way_of_the_bytes() -> None:
    overlapping = replace(
        INSTALL, timings=(*INSTALL.timings, Timing("beside", "", 3.5, 30.0), Timing("lost.part", "", 1, 1))
    )
    names = [row.timing.phase for row in rows.phases(overlapping)]
    assert names[3:9] == [
        "packages",
        *(f"packages.{part}" for part in ("resolve", "download", "verify", "unpack", "link")),
    ]
    assert names[-4:] == ["checks.imports.bytecode", "current", "beside", "lost.part"]
    assert len(names) == len(overlapping.timings)


def test_what_came_in_several_goes_is_one_row_with_several_bars() -> None:
    again = (Timing("plan", "make the plan", 0.0, 2.0), Timing("detect", "", 2.0, 4.0), Timing("plan", "", 6.0, 1.0))
    section = Section("install", "", 10.0, again)
    plan, detect = rows.phases(section)
    assert (plan.timing.seconds, len(plan.goes), len(detect.goes)) == (3.0, 2, 1)
    text = printed(tables.deployment(Deployment("id", (section,))))
    assert "██████············███" in text


def test_bytes_and_retries_are_summed_once_though_steps_repeat_their_parts() -> None:
    assert rows.fetched(INSTALL) == {FAST: 232_000_000, SLOW: 51_000_000}
    assert rows.retries(INSTALL) == 3


def test_the_table_shows_what_each_phase_took_and_moved() -> None:
    text = printed(tables.deployment(FIRST))
    line = next(line for line in text.splitlines() if "download 55 files" in line)
    assert ["10.0", "s", "200.0", "MB", f"{FAST},", SLOW, "3"] == line.split()[3:10]
    assert "verify 55 files (1.50 s of work" in text
    assert text.index("install packages") < text.index("find 55 wheels") < text.index("fetch svd")
    assert "Covered by" not in text


def test_the_table_says_where_its_phases_leave_time_out() -> None:
    text = printed(tables.deployment(Deployment("id", (replace(INSTALL, seconds=60.0),))))
    assert "Covered by phases: 39.6 s of 60.0 s" in text


def test_the_layers_of_an_image_are_told_with_what_was_sent_of_them() -> None:
    layers = (
        ImageLayer(f"sha256:{0:064x}", 322_000_000, "i2v-setup: environment", "there already"),
        ImageLayer(f"sha256:{1:064x}", 900_000, "i2v-setup: application", "sent"),
    )
    image = Deployment("id", (replace(INSTALL, kind="build-image", layers=layers),))
    line = next(line for line in printed(tables.deployment(image)).splitlines() if "environment" in line)
    assert line.split()[2:] == ["322.0", "MB", "there", "already", "sha256:000000000000…"]
    assert "已发送" in printed(tables.deployment(image, "zh"))
    assert f"sha256:{1:064x}" in page.html(image)
    assert report_json.read(report_json.write(image)) == image


def test_chinese_readers_read_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert words.language() == "en"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert words.language() == "zh"
    assert words.language("en") == "en"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert words.language() == "en"
    text = printed(tables.deployment(FIRST, "zh"))
    assert "安装软件包" in text
    assert "编译字节码" in text
    assert "install packages" not in text


def test_every_phase_that_this_tool_records_has_a_chinese_name() -> None:
    names = {
        timing.phase for deployment in (FIRST, SECOND) for section in deployment.sections for timing in section.timings
    }
    assert all(words.phase(Timing(name, "?", 0, 0), "zh") != "?" for name in names)


def test_what_upstream_alone_would_have_taken_is_predicted() -> None:
    found = predict.predict(INSTALL)
    assert found is not None
    packages, weights = found.fetches
    assert (packages.bytes, weights.bytes) == (202_000_000, 80_000_000)
    assert (packages.seconds, weights.seconds) == (10.0, 8.0)
    assert [packages.predicted, weights.predicted] == pytest.approx([202.3, 20.6])
    assert found.predicted == pytest.approx(40.0 + 192.3 + 12.6)


def test_downloads_that_went_on_at_once_delay_by_the_longer_one() -> None:
    at_once = tuple(
        replace(timing, started=5.0) if timing.phase == "weights.download" else timing for timing in INSTALL.timings
    )
    found = predict.predict(replace(INSTALL, timings=at_once))
    assert found is not None
    assert found.predicted == pytest.approx(40.0 + 192.3)


def test_a_faster_upstream_saves_no_more_than_the_time_in_which_nothing_else_was_done() -> None:
    fast = replace(INSTALL.upstreams[0], rate=1e12)
    beside = Timing("weights", "", 6.0, 3.0)
    timings = tuple(timing for timing in INSTALL.timings if not timing.phase.startswith("weights"))
    section = replace(INSTALL, timings=(*timings, beside), upstreams=(fast,))
    found = predict.predict(section)
    assert found is not None
    assert found.predicted == pytest.approx(40.0 - 7.0)


@pytest.mark.parametrize(
    "known", [(), (Upstream("packages", "PyPI", None, None, None, "could not be used: is silent"),)]
)
def test_nothing_is_predicted_where_upstream_was_not_measured(known: tuple[Upstream, ...]) -> None:
    found = predict.predict(replace(INSTALL, upstreams=known))
    assert found is not None
    assert found.predicted is None
    assert found.fetches[0].how in ("was not measured", "could not be used: is silent")
    text = printed(tables.deployment(Deployment("id", (replace(INSTALL, upstreams=known),))))
    assert "No prediction" in text
    assert found.fetches[0].how in text


def test_nothing_is_predicted_where_nothing_came_over_the_network() -> None:
    local = Timing("weights.download", "", 0, 1, 5, None, {LOCAL: 5})
    assert predict.predict(GENERATE) is None
    assert predict.predict(replace(INSTALL, timings=(local,), upstreams=())) is None


def measurement(mirror: str, url: str, kind: Any = "pypi", rate: float | None = 2e6, reason: str = "") -> Measurement:
    row = catalogue.find("upstream", kind) if mirror == "upstream" else catalogue.adhoc(url, mirror, kind)
    file, verdict = Listed("a-1-py3-none-any.whl", f"{url}/a.whl", "0" * 64, 9), "unusable" if reason else "good"
    return Measurement(row, 0.1, rate, verdict, reason, 2, 7, file, 4, rate, 5, 1_700_000_000.0)  # type: ignore[arg-type]


def test_what_was_measured_of_upstream_is_kept_with_when_and_how() -> None:
    ours = [measurement("upstream", "https://up.example"), measurement("near", "https://near.example")]
    torch = [measurement("upstream", "https://torch.example", "pytorch", 3e6), *ours[1:]]
    choices = [Choice(found[0].mirror, "", tuple(found), tuple(found)) for found in (ours, torch)]
    index, builds = upstreams.told("packages", choices)
    assert (index.rate, index.latency, index.kept, index.hosts) == (2e6, 0.1, 10, ())
    assert (builds.rate, builds.hosts) == (3e6, ("torch.example",))
    assert index.measured == "2023-11-14T22:13:20+00:00"
    assert index.how == "a part of a-1-py3-none-any.whl over 4 connections, 1 other measured at the same time"
    assert upstreams.asked(choices) == (28, {"near.example": 14, "up.example": 7, "torch.example": 7})


def test_why_upstream_was_not_measured_is_kept() -> None:
    near, useless = (
        measurement("near", "https://near.example"),
        measurement("upstream", "https://up.example", reason="is silent"),
    )
    only, beside = (Choice(near.mirror, "", found, (near,)) for found in ((near,), (useless, near)))
    assert upstreams.told("packages", [only])[0].how == "was not measured; asked: near"
    (told,) = upstreams.told("packages", [beside])
    assert (told.rate, told.how) == (None, "could not be used: is silent")


def test_two_deployments_stand_side_by_side() -> None:
    install, generate = compare.pairs(FIRST, SECOND)
    assert compare.percent(install.seconds) == -25.0
    assert (generate.second, generate.seconds) == (None, (12.0, None))
    lines = {line.example.phase: line for line in install.lines}
    assert lines["packages"].seconds == (17.0, 28.0)
    assert (lines["plan"].seconds, lines["plan"].difference) == ((None, 1.0), None)
    assert list(lines)[:5] == ["start", "detect", "choose", "plan", "packages"]
    assert install.bytes == {FAST: (232_000_000, 0), SLOW: (51_000_000, 200_000_000)}


def test_the_comparison_is_a_table_and_a_document() -> None:
    text = printed(tables.comparison(FIRST, SECOND))
    line = next(line for line in text.splitlines() if "install packages" in line)
    assert line.split()[2:] == ["17.0", "s", "28.0", "s", "+11.0", "s", "+65", "%"]
    document = compare.as_document(FIRST, SECOND)
    assert document["sections"][0]["seconds"] == [40.0, 30.0]
    assert document["sections"][0]["difference"] == -10.0
    assert json.loads(json.dumps(document)) == document


def test_a_trace_is_in_the_documented_format() -> None:
    document = json.loads(trace.text(FIRST))
    events = document["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {1: "install", 2: "generate"}
    threads = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    complete = [event for event in events if event["ph"] == "X"]
    for event in complete:
        assert isinstance(event["ts"], int)
        assert isinstance(event["dur"], int)
        assert event["dur"] >= 0
        assert (event["pid"], event["tid"]) in threads
    packages = next(event for event in complete if event["name"] == "install packages")
    assert (packages["ts"], packages["dur"]) == (3_000_000, 17_000_000)
    assert any(event["name"].startswith("torch-2.13.0") for event in complete)
    denoise = next(event for event in complete if event["name"] == "denoise")
    assert denoise["ts"] == 43_200_000  # behind the installation


def close_together() -> Deployment:
    """Parts that follow each other at once, and sections that begin between two microseconds."""
    dice = random.Random(7)
    cuts = sorted(dice.uniform(0.0, 50e-6) for _ in range(40))
    parts = tuple(Timing(f"step.{at}", "", start, end - start) for at, (start, end) in enumerate(pairwise(cuts)))
    return Deployment("id", tuple(Section("install", "", 50e-6 + dice.random() / 1e6, parts) for _ in range(5)))


@pytest.mark.parametrize("found", [FIRST, close_together()], ids=["as always", "close together"])
def test_no_two_events_of_a_trace_overlap_in_one_row(found: Deployment) -> None:
    complete = [event for event in json.loads(trace.text(found))["traceEvents"] if event["ph"] == "X"]
    for one in complete:
        for other in complete:
            if one is not other and (one["pid"], one["tid"]) == (other["pid"], other["tid"]):
                assert one["ts"] + one["dur"] <= other["ts"] or other["ts"] + other["dur"] <= one["ts"]


def test_a_trace_counts_the_speed_of_each_mirror_and_ends_at_zero() -> None:
    counters = [event for event in json.loads(trace.text(FIRST))["traceEvents"] if event["ph"] == "C"]
    assert [event["args"] for event in counters] == [
        {FAST: 4_000_000},
        {FAST: 16_000_000, SLOW: 2_000_000},
        {FAST: 16_000_000, SLOW: 0},
        {FAST: 8_000_000, SLOW: 2_000_000},
        {FAST: 0, SLOW: 0},
    ]
    assert [event["ts"] for event in counters] == [4_250_000, 4_500_000, 4_750_000, 5_000_000, 5_250_000]


def saved(section: Section = INSTALL) -> str:
    return deployments.save(state.home(), section).id


def test_the_report_command_shows_one_two_or_all(invoke: Invoke, tmp_path: Path) -> None:
    first, second = saved(), saved(SECOND.sections[0])
    listed = json.loads(invoke("report", "--list", "--json").stdout)
    assert [row["id"] for row in listed] == [second, first]
    assert listed[1] | {"id": ""} == {
        "id": "",
        "began": INSTALL.began,
        "model": "svd",
        "kinds": ["install"],
        "seconds": 40.0,
        "bytes": 283_000_000,
    }
    assert second in invoke("report", "--list").stdout
    assert f"Deployment {second}" in invoke("report", "--lang", "en").stdout
    assert f"Deployment {first}" in invoke("report", "previous", "--lang", "en").stdout
    told = json.loads(invoke("report", first, "--json").stdout)
    assert told["sections"][0]["timings"][4]["phase"] == "packages.resolve"
    assert told["sections"][0]["covered"] == pytest.approx(39.6)
    assert told["sections"][0]["prediction"]["predicted"] == pytest.approx(244.9)
    compared = json.loads(invoke("report", "--compare", first, "last", "--json").stdout)
    assert (compared["first"], compared["second"]) == (first, second)
    assert "差值" in invoke("report", "--compare", "previous", "last", "--lang", "zh").stdout
    page, traced = tmp_path / "report.html", tmp_path / "trace.json"
    assert invoke("report", "--html", str(page), "--trace", str(traced)).exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(traced.read_text(encoding="utf-8"))["otherData"]["deployment"] == second
    assert invoke("report", "--compare", first, second, "--html", str(page)).exit_code == 0
    assert first in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [("--list", "last"), ("--list", "--html", "x.html"), ("--compare", "a", "b", "--trace", "x"), ("nonesuch",)],
)
def test_what_does_not_go_together_is_wrong_usage(arguments: tuple[str, ...], invoke: Invoke) -> None:
    saved()
    assert invoke("report", *arguments).exit_code == 2


def test_all_that_the_command_shows_as_data_is_json(home: Path) -> None:
    first, second = saved(), saved(GENERATE)
    assert first == second
    here = state.home()
    for found in (shown.one(here, "last"), shown.two(here, "last", "last"), shown.kept(here)):
        assert json.loads(json.dumps(found.data())) == json.loads(json.dumps(found.data()))


@pytest.mark.parametrize(
    ("count", "text"), [(None, ""), (12, "12 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3.06e9, "3.1 GB")]
)
def test_sizes_are_in_powers_of_a_thousand(count: float | None, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(("count", "text"), [(0.004, "0.00 s"), (9.99, "9.99 s"), (12.34, "12.3 s"), (300.0, "300 s")])
def test_seconds_have_the_digits_that_tell_something(count: float, text: str) -> None:
    assert units.seconds(count) == text


def test_a_difference_that_cannot_be_seen_has_no_sign() -> None:
    assert [units.signed(value) for value in (-0.001, 0.001, -2, 12.0)] == ["0.00 s", "0.00 s", "-2.00 s", "+12.0 s"]
    assert compare.percent((0.001, 0.02)) is None
