import json
from pathlib import Path

import pytest

from images.references import parse
from images.siblings import Siblings


def test_the_repositories_that_were_pushed_to_are_remembered_latest_first(tmp_path: Path) -> None:
    siblings = Siblings(tmp_path / "kept" / "pushed.json")
    for name in ("a.example/one:1", "a.example/two:1", "b.example/three:1", "a.example/one:2"):
        siblings.keep(parse(name))
    found = Siblings(tmp_path / "kept" / "pushed.json")
    assert found.of(parse("a.example/new:1")) == ("one", "two")
    assert found.of(parse("a.example/one:3")) == ("two",)
    assert found.of(parse("c.example/one:1")) == ()


def test_where_an_image_comes_from_is_first_if_it_is_on_that_registry(tmp_path: Path) -> None:
    siblings = Siblings(tmp_path / "pushed.json")
    siblings.keep(parse("a.example/one:1"))
    siblings.keep(parse("a.example/slim:1"))
    siblings.keep(parse("a.example/two:1"))
    assert siblings.of(parse("a.example/new:1"), parse("a.example/slim:1")) == ("slim", "two", "one")
    assert siblings.of(parse("a.example/new:1"), parse("b.example/else:1")) == ("two", "slim", "one")


def test_only_a_few_are_remembered(tmp_path: Path) -> None:
    siblings = Siblings(tmp_path / "pushed.json")
    for number in range(10):
        siblings.keep(parse(f"a.example/number{number}:1"))
    assert siblings.of(parse("a.example/new:1")) == ("number9", "number8", "number7", "number6")


@pytest.mark.parametrize("text", ["", "[]", '{"a.example": 7}', '{"a.example": [1, null, "two"]}', "[" * 100_000])
def test_a_file_that_makes_no_sense_costs_nothing_but_what_it_says(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pushed.json"
    path.write_text(text)
    siblings = Siblings(path)
    assert set(siblings.of(parse("a.example/new:1"))) <= {"two"}
    siblings.keep(parse("a.example/one:1"))
    assert json.loads(path.read_text())["a.example"][0] == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["pushed.json"]
