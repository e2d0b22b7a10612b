from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from bootstrap import present
from bootstrap.model_list import Offered
from bootstrap.report import Deployment, Section, Timing
from bootstrap.reporting import tables

ID = "a-model-with-a-long-name-3b"
OFFERED = Offered(
    id=ID,
    title="A model with a long name",
    installed=True,
    directory="/models/it",
    files=3,
    bytes=4_500_000_000,
    exact=True,
    precision="fp16",
    licence="a-licence-with-a-name-that-is-long-too",
    gated=None,
    repositories=(),
    to_learn=2,
    unknown=0,
    note="",
)
SOURCE = "files.mirror.example.org"
TIMINGS = (Timing("packages", "install packages", 0.0, 4.0, 10, SOURCE), Timing("checks", "verify", 4.0, 6.0))
DEPLOYMENT = Deployment("id", (Section("install", "2026-01-02T03:04:05.000+00:00", 10.0, TIMINGS),))


def printed(what: object, width: int) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width).print(what)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_a_name_is_in_one_piece_and_no_line_is_too_long(width: int) -> None:
    lines = printed(present.models_table([OFFERED]), width)
    assert any(line.startswith(f"{ID} ") for line in lines)
    assert max(map(len, lines)) <= width


def test_a_narrow_window_shows_fewer_columns() -> None:
    assert "precision" in printed(present.models_table([OFFERED]), 160)[1]
    header = printed(present.models_table([OFFERED]), 80)[1]
    assert "precision" not in header
    assert "here" in header


def test_a_narrow_window_has_shorter_bars_and_no_phase_in_two_lines() -> None:
    wide, narrow = printed(tables.deployment(DEPLOYMENT), 160), printed(tables.deployment(DEPLOYMENT), 80)
    assert len(narrow) == len(wide)
    assert 0 < "".join(narrow).count("█") < "".join(wide).count("█")
