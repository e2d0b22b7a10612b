"""The made-up channel of benchmarks/solve.py."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.solve import by_rattler, make_channel


def test_the_made_up_channel_is_the_same_every_time_and_has_a_solution(tmp_path: Path) -> None:
    made = make_channel(tmp_path / "one", 60)
    again = make_channel(tmp_path / "two", 60)
    assert (made.records, made.wishes) == (again.records, again.wishes)
    one, two = (tmp_path / name / "linux-64" / "repodata.json" for name in ("one", "two"))
    assert json.loads(one.read_text(encoding="utf-8")) == json.loads(two.read_text(encoding="utf-8"))
    by_rattler(made, tmp_path / "index")
