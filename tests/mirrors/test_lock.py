from __future__ import annotations

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


@pytest.mark.parametrize(
    "line",
    [
        "numpy==2.4.6",
        f"numpy>=2 --hash=sha256:{A}",
        f"-r other.txt --hash=sha256:{A}",
        f"numpy==2.* --hash=sha256:{A}",
        f"numpy==2.4.6 --hash=sha256:{'g' * 64}",
        f"numpy==2.4.6 ; python_version ~= 'abc' --hash=sha256:{A}",
        "numpy==2.4.6 \\",
    ],
)
def test_a_line_without_version_or_hash_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(MirrorError, match=r"lock\.txt, line 2"):
        lock.read(written(tmp_path, f"# one\n{line}\n"))


def test_a_pin_whose_last_line_is_cut_off_is_not_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, f"one==1 --hash=sha256:{A}\ntwo==1 \\\n    --hash=sha256:{A} \\\n")
    assert [pin.name for pin in lock.read(path)] == ["one", "two"]


def test_a_lock_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_bytes(b"\xff\xfe\x00")
    for path, told in ((tmp_path / "lock.txt", "it is not text"), (tmp_path, "Is a directory")):
        with pytest.raises(MirrorError, match=told):
            lock.read(path)
        with pytest.raises(MirrorError, match=told):
            lock.to_learn(path)


def test_a_comment_says_which_file_a_hash_is_of(tmp_path: Path) -> None:
    text = (
        f"# demo-1.0-py3-none-any.whl sha256:{A}\n# other-1.0-py3-none-any.whl sha256:{B}\n"
        f"demo==1.0 \\\n    --hash=sha256:{A}\n"
    )
    (pin,) = lock.read(written(tmp_path, text))
    assert pin.names == (("demo-1.0-py3-none-any.whl", A),)


def test_what_is_to_be_learnt_is_no_pin_and_is_told_where_its_marker_holds(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"demo==1.0 \\\n    --hash=sha256:{A}\n# to learn: torch==2.0+rocm1 ; sys_platform == 'linux'\n"
    )
    assert [pin.name for pin in lock.read(path)] == ["demo"]
    assert [str(found.specifier) for found in lock.to_learn(path, {"sys_platform": "linux"})] == ["==2.0+rocm1"]
    assert lock.to_learn(path, {"sys_platform": "darwin"}) == ()


def test_every_pin_is_given_wherever_it_applies() -> None:
    text = (
        f"# numpy-2.5.5-py3-none-any.whl sha256:{B}\n"
        f"numpy==2.4.6 ; python_full_version < '3' --hash=sha256:{A}\n"
        f"numpy==2.5.5 ; python_full_version >= '3' --hash=sha256:{B}\n"
    )
    assert lock.every_pin(text, "a lock") == (
        Pin("numpy", "2.4.6", frozenset({A})),
        Pin("numpy", "2.5.5", frozenset({B}), (("numpy-2.5.5-py3-none-any.whl", B),)),
    )
    with pytest.raises(MirrorError, match=r"a lock, line 1"):
        lock.every_pin("numpy", "a lock")
