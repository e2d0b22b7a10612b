from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import disks, state
from bootstrap.errors import SetupError


def test_disks_have_sizes_and_a_kind() -> None:
    found = disks.detect()
    assert found
    assert all(0 <= disk.free <= disk.total for disk in found)
    assert found == tuple(sorted(found, key=lambda disk: -disk.free))


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet" / "there"
    disks.require_room(place, 1, "this")
    with pytest.raises(SetupError, match=r"this needs 1000000\.0 GB") as caught:
        disks.require_room(place, 10**15, "this")
    assert "I2V_SETUP_HOME" in caught.value.hint
    assert not place.exists()


def test_a_home_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(SetupError, match="cannot be written") as caught:
        state.writable(file / "home")
    assert "I2V_SETUP_HOME" in caught.value.hint
