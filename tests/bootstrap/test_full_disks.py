"""build-image on disks that run full, each a real file system: one error, one hint, and nothing half there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Tool, tool_in
from tests.loop_disk import leave, loop_disk

_WEIGHTS = ("build-image", "--weights", "volume", "--torch", "cpu", "-o")


def _says_that_it_is_full(tool: Tool, said: str, *arguments: str) -> None:
    done = tool(*arguments, check=False)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    (error,) = (line for line in lines if line.startswith("error: "))
    assert re.search(said, error)
    assert lines[-1].startswith("hint: make room")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_an_image_that_has_no_room_at_its_target_has_no_name_there(tmp_path: Path, name: str) -> None:
    with loop_disk(tmp_path / "disk", tmp_path / "mount", 8) as mount:
        leave(mount, 1000)
        tool = tool_in(tmp_path / "home")
        _says_that_it_is_full(tool, "the disk that holds .* is full", *_WEIGHTS, str(mount / name))
        assert not (mount / name / "index.json").exists()
        assert not (mount / name).is_file()
        assert not list(mount.rglob("*unfinished*"))


def test_a_store_that_runs_full_while_weights_are_fetched_is_told_and_the_next_run_goes_on(tmp_path: Path) -> None:
    target = tmp_path / "weights.tar"
    with loop_disk(tmp_path / "disk", tmp_path / "mount", 16) as mount:
        leave(mount, 1000)
        tool = tool_in(mount / "home")
        _says_that_it_is_full(tool, r"needs [\d.]+ MB more, and .* has 0\.\d MB left", *_WEIGHTS, str(target))
        assert not target.exists()
        assert not (mount / "home" / "cache" / "models" / "demo").exists()
        (mount / "filling").unlink()
        tool(*_WEIGHTS, str(target))
        assert target.is_file()
