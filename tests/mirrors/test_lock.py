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
    assert lock.local_wheels(pins, [tmp_path]) == {pins[0]: good}
