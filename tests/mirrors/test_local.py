"""Wheels in local directories: which are a pin's, and that no file is read without need."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mirrors import tags
from mirrors.local import Shelf
from mirrors.lock import Pin

PLACES = tags.order(tags.supported("3.12", tags.manylinux("x86_64", 28)))


def pin(data: bytes = b"bytes", name: str = "a", version: str = "1") -> Pin:
    return Pin(name, version, frozenset({hashlib.sha256(data).hexdigest()}))


def test_a_wheel_counts_only_with_the_right_name_version_and_bytes(tmp_path: Path) -> None:
    good, bad = tmp_path / "six-1.16.0-py2.py3-none-any.whl", tmp_path / "rich-15.0.0-py3-none-any.whl"
    good.write_bytes(b"the right bytes")
    bad.write_bytes(b"other bytes")
    (tmp_path / "not-a-wheel.whl").write_bytes(b"")
    shelf = Shelf([tmp_path])
    found = shelf.find(pin(b"the right bytes", "six", "1.16.0"), PLACES)
    assert found is not None
    assert (found.path, found.size) == (good, len(b"the right bytes"))
    assert shelf.find(pin(b"the right bytes", "six", "1.17.0"), PLACES) is None
    assert shelf.find(pin(b"the right bytes", "rich", "15.0.0"), PLACES) is None


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp312-cp312-manylinux_2_28_aarch64.whl", False),
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp313-abi3-manylinux_2_28_x86_64.whl", False),
        ("a-1-py3-none-any.whl", True),
    ],
)
def test_a_wheel_counts_only_for_the_python_and_machine_that_it_is_made_for(
    tmp_path: Path, name: str, fits: bool
) -> None:
    (tmp_path / name).write_bytes(b"bytes")
    assert (Shelf([tmp_path]).find(pin(), PLACES) is not None) is fits


def test_of_several_the_one_that_fits_best_is_taken_and_one_of_other_bytes_is_passed_over(tmp_path: Path) -> None:
    best, other = tmp_path / "a-1-cp312-cp312-manylinux_2_28_x86_64.whl", tmp_path / "a-1-py3-none-any.whl"
    other.write_bytes(b"bytes")
    best.write_bytes(b"wrong")
    found = Shelf([tmp_path]).find(pin(), PLACES)
    assert found is not None
    assert found.path == other
    best.write_bytes(b"bytes")
    found = Shelf([tmp_path]).find(pin(), PLACES)
    assert found is not None
    assert found.path == best


def test_a_file_under_the_name_of_another_one_of_the_lock_is_not_taken(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"bytes").hexdigest()
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"bytes")
    named = Pin("a", "1", frozenset({digest}), names=(("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", digest),))
    assert Shelf([tmp_path]).find(named, PLACES) is None


def test_what_cannot_be_read_is_no_wheel_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "a-1-cp312-cp312-manylinux_2_28_x86_64.whl").symlink_to(tmp_path / "nothing")
    (tmp_path / "a-1-cp39-abi3-manylinux_2_28_x86_64.whl").mkdir()
    assert Shelf([tmp_path, tmp_path / "absent"]).find(pin(), PLACES) is None
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"bytes")
    assert Shelf([tmp_path]).find(pin(), PLACES) is not None


def test_a_version_may_be_spelt_with_more_zeros(tmp_path: Path) -> None:
    (tmp_path / "a-1.0.0-py3-none-any.whl").write_bytes(b"bytes")
    assert Shelf([tmp_path]).find(pin(version="1"), PLACES) is not None


def test_which_files_it_may_be_is_said_without_reading_any(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a-1-py3-none-any.whl"
    path.parent.mkdir()
    path.symlink_to(tmp_path / "nowhere")
    assert Shelf([tmp_path]).candidates(pin(), PLACES) == [path]
    assert not Shelf([tmp_path / "empty"])
