"""The timing report of a real installation: that its phases are true, and leave no time out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bootstrap.reporting import spans
from tests.conftest import PHOTO, Tool

Section = Mapping[str, Any]
SLACK = 0.1  # seconds: uv rounds its own


@pytest.fixture(scope="module")
def sections(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Section]:
    """What the reports say of the installation and of a generation, by kind."""
    video = tmp_path_factory.mktemp("video") / "video.mp4"
    tool("generate", str(PHOTO), "-o", str(video), "--size", "64x64", "--steps", "2", "--frames", "4")
    generated = json.loads(tool("report", "--json").stdout)["sections"]
    installed = json.loads(tool("report", installation(tool), "--json").stdout)["sections"]
    return {section["kind"]: section for section in (*generated, *installed)}


def installation(tool: Tool) -> str:
    """The deployment that began with the installation: others may have followed it."""
    deployments = json.loads(tool("report", "--list", "--json").stdout)
    return next(str(deployment["id"]) for deployment in deployments if "install" in deployment["kinds"])


def span(timing: Section) -> tuple[float, float]:
    return timing["started"], timing["started"] + timing["seconds"]


@pytest.mark.parametrize("kind", ["install", "generate"])
def test_the_steps_cover_the_time_that_a_user_waited(kind: str, sections: Mapping[str, Section]) -> None:
    section = sections[kind]
    steps = [timing for timing in section["timings"] if "." not in timing["phase"]]
    assert steps[0]["phase"] == "start"
    assert steps[0]["started"] == 0.0
    covered = spans.seconds(map(span, steps))
    assert 0.95 * section["seconds"] <= covered <= section["seconds"]
    assert section["covered"] == pytest.approx(covered)


def test_every_phase_lies_within_the_section_and_every_part_within_its_step(sections: Mapping[str, Section]) -> None:
    for section in sections.values():
        steps = {timing["phase"]: span(timing) for timing in section["timings"] if "." not in timing["phase"]}
        for timing in section["timings"]:
            begin, end = steps[timing["phase"].partition(".")[0]] if "." in timing["phase"] else (0, section["seconds"])
            assert begin - SLACK <= timing["started"] <= timing["started"] + timing["seconds"] <= end + SLACK, timing


def test_the_installation_tells_of_all_that_it_did(sections: Mapping[str, Section]) -> None:
    phases = {timing["phase"]: timing for timing in sections["install"]["timings"]}
    steps = [
        "start",
        "detect",
        "choose",
        "environment",
        "configs",
        "packages",
        "runtime",
        "weights",
        "checks",
        "current",
    ]
    assert set(steps) <= set(phases)
    parts = {"packages.resolve", "packages.link", "weights.download", "weights.verify", "checks.python"}
    assert parts | {"checks.imports", "checks.load", "checks.generation"} <= set(phases)
    for timing in phases.values():
        if timing["sources"]:
            assert timing["bytes"] == sum(timing["sources"].values())
        if timing["busy"] is not None:
            assert timing["busy"] <= timing["seconds"] * 64  # on all threads together
    assert phases["weights.download"]["bytes"] >= 1_000_000


def test_files_and_their_parts_of_the_download_agree(sections: Mapping[str, Section]) -> None:
    section = sections["install"]
    for timing in section["timings"]:
        if not timing["phase"].endswith(".download"):
            continue
        step = timing["phase"].removesuffix(".download")
        files = [file for file in section["files"] if file["phase"] == step]
        assert sum(file["bytes"] for file in files) == timing["bytes"]
        assert min(file["started"] for file in files) == pytest.approx(timing["started"])
        assert max(file["last"] for file in files) == pytest.approx(timing["started"] + timing["seconds"])


def test_page_and_trace_come_of_it(tool: Tool, tmp_path: Path) -> None:
    page, trace = tmp_path / "report.html", tmp_path / "trace.json"
    tool("report", installation(tool), "--html", str(page), "--trace", str(trace))
    assert "install" in page.read_text(encoding="utf-8")
    assert len(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]) > 20
