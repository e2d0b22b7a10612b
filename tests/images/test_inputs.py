from pathlib import Path

import pytest

from images.errors import ImageError
from images.inputs import Recipe, place_list, place_wheels, shipped_recipe


def test_an_unknown_torch_build_names_those_that_there_are() -> None:
    with pytest.raises(ImageError, match="cu1") as caught:
        shipped_recipe().lock("cu1")
    assert "cpu" in caught.value.hint


def test_a_path_is_no_torch_build(tmp_path: Path) -> None:
    (tmp_path / "runtime" / "locks").mkdir(parents=True)
    (tmp_path / "secret.txt").touch()
    with pytest.raises(ImageError):
        Recipe(tmp_path / "Dockerfile", tmp_path).lock("../../secret")


def test_wheels_are_handed_over_under_their_own_names(tmp_path: Path) -> None:
    stored = tmp_path / "5e3f"
    stored.write_bytes(b"wheel")
    stored.chmod(0o444)
    place_wheels({"a-1-py3-none-any.whl": stored}, tmp_path / "given")
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["a-1-py3-none-any.whl"]
    assert stored.samefile(tmp_path / "given" / "a-1-py3-none-any.whl")
    assert stored.stat().st_mode & 0o777 == 0o444


def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"wheel a-1-py3-none-any\.whl is missing: .*5e3f"):
        place_wheels({"a-1-py3-none-any.whl": tmp_path / "5e3f"}, tmp_path / "given")


def test_no_name_of_a_wheel_leads_out_of_the_directory(tmp_path: Path) -> None:
    stored = tmp_path / "5e3f"
    stored.touch()
    with pytest.raises(ImageError, match="no name of a wheel"):
        place_wheels({"../a-1-py3-none-any.whl": stored}, tmp_path / "given")
    assert not (tmp_path / "a-1-py3-none-any.whl").exists()


def test_a_list_has_a_time_of_its_own_bytes_and_may_be_read_by_anybody(tmp_path: Path) -> None:
    found = []
    for number, content in enumerate((b"one", b"one", b"two")):
        place_list(content, tmp_path / str(number), "list.json")
        status = (tmp_path / str(number) / "list.json").stat()
        assert (status.st_mode & 0o777, (tmp_path / str(number)).stat().st_mode & 0o777) == (0o644, 0o755)
        found.append(status.st_mtime_ns)
    assert found[0] == found[1] != found[2]
    with pytest.raises(ImageError, match="No such file or directory"):
        place_list(b"", tmp_path / "none" / "such", "list.json")
