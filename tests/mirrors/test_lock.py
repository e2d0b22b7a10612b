from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mirrors import lock
from mirrors.errors import MirrorError
from mirrors.lock import Pin

A, B = "a" * 64, "b" * 64


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_pins_have_version_and_hashes_and_markers_are_heeded(tmp_path: Path) -> None:
    text = (
        f"# a comment\nNumPy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:{A} \\\n"
        f"    --hash=sha256:{B}\n"
        f"numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:{B}\n"
    )
    path = written(tmp_path, text)
    assert lock.read(path, {"python_full_version": "3.11.0"}) == (Pin("numpy", "2.4.6", frozenset({A, B})),)
    assert lock.read(path, {"python_full_version": "3.13.0"}) == (Pin("numpy", "2.5.5", frozenset({B})),)


@pytest.mark.parametrize("line", ["numpy==2.4.6", f"numpy>=2 --hash=sha256:{A}", f"-r other.txt --hash=sha256:{A}"])
def test_a_line_without_version_or_hash_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(MirrorError, match=r"lock\.txt, line 2"):
        lock.read(written(tmp_path, f"# one\n{line}\n"))


def test_local_wheels_count_only_with_the_right_name_version_and_bytes(tmp_path: Path) -> None:
    good, bad = tmp_path / "six-1.16.0-py2.py3-none-any.whl", tmp_path / "rich-15.0.0-py3-none-any.whl"
    good.write_bytes(b"the right bytes")
    bad.write_bytes(b"other bytes")
    (tmp_path / "not-a-wheel.whl").write_bytes(b"")
    digest = hashlib.sha256(b"the right bytes").hexdigest()
    pins = [Pin("six", "1.16.0", frozenset({digest})), Pin("rich", "15.0.0", frozenset({A}))]
    assert lock.local_wheels(pins, [tmp_path], "3.11") == {pins[0]: good}


@pytest.mark.parametrize(
    ("name", "python", "fits"),
    [
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", "3.11", True),
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", "3.12", False),
        ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", "3.12", True),
        ("a-1-cp313-abi3-manylinux_2_28_x86_64.whl", "3.12", False),
        ("a-1-py3-none-any.whl", "3.12", True),
    ],
)
def test_a_local_wheel_counts_only_for_the_python_that_it_is_made_for(
    tmp_path: Path, name: str, python: str, fits: bool
) -> None:
    (tmp_path / name).write_bytes(b"bytes")
    pin = Pin("a", "1", frozenset({hashlib.sha256(b"bytes").hexdigest()}))
    assert bool(lock.local_wheels([pin], [tmp_path], python)) is fits


def test_a_comment_says_which_file_a_hash_is_of(tmp_path: Path) -> None:
    text = (
        f"# demo-1.0-py3-none-any.whl sha256:{A}\n# other-1.0-py3-none-any.whl sha256:{B}\n"
        f"demo==1.0 \\\n    --hash=sha256:{A}\n"
    )
    (pin,) = lock.read(written(tmp_path, text))
    assert pin.names == (("demo-1.0-py3-none-any.whl", A),)
