from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from images.errors import ImageError
from images.packages import Package, installed

_A, _B = "a" * 64, "b" * 64


def _lock(directory: Path, text: str) -> Path:
    path = directory / "cpu.txt"
    path.write_text(text)
    return path


def test_only_what_the_lock_names_is_in_the_image(tmp_path: Path) -> None:
    lock = _lock(tmp_path, f"small-one==1.0 --hash=sha256:{_A}\nother==2 --hash=sha256:{_B}\n")
    wheels = dict.fromkeys(("uv-0.9-py3-none-any.whl", "Small_One-1.0.0-py3-none-any.whl"), tmp_path / "none")
    lock.write_text(lock.read_text().replace("1.0 ", "1.0.0 "))
    assert list(installed(wheels, lock)) == [Package("small-one", "1.0.0", _A, "Small_One-1.0.0-py3-none-any.whl")]


def test_of_several_wheels_in_the_lock_it_is_the_one_of_that_name(tmp_path: Path) -> None:
    wheel = "demo-1.0+cpu-cp311-cp311-linux_x86_64.whl"
    text = f"# {wheel} sha256:{_B}\ndemo==1.0+cpu ; python_version < '3' --hash=sha256:{_A} --hash=sha256:{_B}\n"
    assert list(installed({wheel: tmp_path / "none"}, _lock(tmp_path, text))) == [Package("demo", "1.0+cpu", _B, wheel)]


def test_a_wheel_is_read_where_the_lock_leaves_open_which_it_is(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"wheel")
    lock = _lock(tmp_path, f"demo==1 --hash=sha256:{_A}\ndemo==1 ; python_version < '3' --hash=sha256:{_B}\n")
    [found] = installed({"demo-1-py3-none-any.whl": path}, lock)
    assert found.sha256 == hashlib.sha256(b"wheel").hexdigest()


@pytest.mark.parametrize(("text", "wheel"), [("demo>=1", "demo-1-py3-none-any.whl"), ("", "demo-1.tar.gz")])
def test_what_makes_no_sense_is_told(text: str, wheel: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        list(installed({wheel: tmp_path / "none"}, _lock(tmp_path, text)))
    assert caught.value.hint
