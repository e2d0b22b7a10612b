"""Configuration texts: only our keys change, and the real pip, uv and conda read what we wrote."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ruamel.yaml import YAML

from mirrors.configs import condarc, mambarc, pip_conf, uv_toml, uv_toml_pytorch
from mirrors.errors import BadConfig
from tests.mirrors.config_texts import CONDARC, PIP, UV_TOML
from tests.mirrors.real_tools import Conda, pip_settings, uv_indexes

INDEX = "https://me:p%40ss@index.corp.example/pypi/simple"
PLAIN_INDEX = "https://index.corp.example/simple"
CHANNELS = "https://index.corp.example/anaconda/cloud"
TORCH = "https://index.corp.example/pytorch/whl/cu128"

Edit = Callable[[str, str], str]


def torch_index(text: str, url: str) -> str:
    return uv_toml_pytorch(text, url, "cu128")


def flat_torch_index(text: str, url: str) -> str:
    return uv_toml_pytorch(text, url, "cu128", flat=True)


CASES = [
    *(pytest.param(pip_conf, INDEX, text, id=f"pip {name}") for name, text in PIP.items()),
    *(pytest.param(uv_toml, INDEX, text, id=f"uv {name}") for name, text in UV_TOML.items()),
    *(pytest.param(torch_index, TORCH, text, id=f"torch {name}") for name, text in UV_TOML.items()),
    *(pytest.param(flat_torch_index, TORCH, text, id=f"flat torch {name}") for name, text in UV_TOML.items()),
    *(pytest.param(condarc, CHANNELS, text, id=f"conda {name}") for name, text in CONDARC.items()),
    *(pytest.param(mambarc, CHANNELS, text, id=f"mamba {name}") for name, text in CONDARC.items()),
]


@pytest.mark.parametrize(("edit", "url", "text"), CASES)
def test_the_same_edit_twice_changes_nothing_more(edit: Edit, url: str, text: str) -> None:
    once = edit(text, url)
    assert url in once
    assert edit(once, url) == once


@pytest.mark.parametrize(("edit", "url", "text"), CASES)
def test_only_our_lines_change(edit: Edit, url: str, text: str) -> None:
    new = edit(text, url)
    before, after = text.splitlines(keepends=True), new.splitlines(keepends=True)
    lost = [line[2:].strip() for line in difflib.ndiff(before, after) if line.startswith("- ")]
    ours = (
        *("index-url", "Index_URL", "index =", "url ", "name=", "format ", "pip = {", "pip.index-url"),
        *("channels", "custom_channels", "conda-forge", "https://old.example", "- https://old.example", "{ url"),
    )
    last = before[-1].strip() if before and not text.endswith("\n") else None  # gets a line end of its own
    assert [line for line in lost if line != last and not line.startswith(("# in between", *ours))] == []
    assert new.startswith("\ufeff") == text.startswith("\ufeff")
    assert new.endswith("\n") == (text.endswith("\n") or not text)
    if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
        assert "\n" not in new.replace("\r\n", "")
    comments = ("mine", "and this", "about install", "in between", "ours", "kept", "older", "first", "# old")
    for comment in (*comments, "#!final", "#!top", "#!bottom"):
        assert new.count(comment) == text.count(comment)


@pytest.mark.parametrize("text", PIP.values(), ids=PIP)
def test_pip_reads_it(text: str, tmp_path: Path) -> None:
    def read(content: str) -> dict[str, str]:
        path = tmp_path / "pip.conf"
        path.write_bytes(content.encode())
        return pip_settings(path)

    before, after = read(text), read(pip_conf(text, INDEX))
    assert after["global.index-url"] == INDEX
    set_elsewhere = [key for key in before if key.endswith(".index-url")]
    assert {after[key] for key in set_elsewhere} <= {INDEX}
    ours = ("global.index-url", *set_elsewhere)
    assert {k: v for k, v in after.items() if k not in ours} == {k: v for k, v in before.items() if k not in ours}


@pytest.mark.parametrize("text", UV_TOML.values(), ids=UV_TOML)
def test_uv_reads_it(text: str) -> None:
    before, after = read_by_uv(text), read_by_uv(uv_toml(text, PLAIN_INDEX))
    default = next(index for index in after if index["default"] == "true")
    assert (default["url"], default["format"], default["name"]) == (PLAIN_INDEX, "Simple", None)
    assert [it for it in after if it["default"] == "false"] == [it for it in before if it["default"] == "false"]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("text", UV_TOML.values(), ids=UV_TOML)
def test_uv_reads_the_index_for_torch_and_it_stands_in_for_nothing_else(text: str, flat: bool) -> None:
    before = read_by_uv(text)
    after = read_by_uv(uv_toml_pytorch(text, TORCH, "cu128", flat=flat))
    (ours,) = [index for index in after if index["name"] == "pytorch-cu128"]
    assert (ours["url"], ours["explicit"], ours["default"]) == (TORCH, "true", "false")
    assert ours["format"] == ("Flat" if flat else "Simple")
    others = [index for index in before if index["name"] != "pytorch-cu128"]
    assert [index for index in after if index["name"] != "pytorch-cu128"] == others


def test_an_index_for_torch_changes_from_flat_to_simple_and_back() -> None:
    flat = uv_toml_pytorch("# mine\n", TORCH, "cu128", flat=True)
    simple = uv_toml_pytorch(flat, TORCH + "/other", "cu128")
    assert 'format = "simple"' in simple
    assert uv_toml_pytorch(simple, TORCH, "cu128", flat=True) == flat


def test_an_index_of_another_build_of_torch_stays() -> None:
    one = uv_toml_pytorch("", TORCH, "cu128")
    both = uv_toml_pytorch(one, TORCH, "cpu")
    assert both.startswith(one)
    assert both.count("[[index]]") == 2


@cache
def read_by_uv(text: str) -> list[dict[str, str | None]]:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "uv.toml"
        path.write_bytes(text.encode())
        return uv_indexes(path)


def test_a_default_index_that_moves_loses_its_name_to_a_comment() -> None:
    old = "[[index]]\n  name = 'corp' # ours\nurl = 'https://corp.example/simple'\ndefault = true\n"
    new = uv_toml(old, PLAIN_INDEX)
    assert new == old.replace("  name", "  # name").replace("'https://corp.example/simple'", f'"{PLAIN_INDEX}"')
    there = old.replace("https://corp.example/simple", PLAIN_INDEX)
    assert uv_toml(there, PLAIN_INDEX) == there


@pytest.mark.parametrize("text", CONDARC.values(), ids=CONDARC)
def test_conda_reads_it(text: str, conda: Conda, tmp_path: Path) -> None:
    files = []
    for name, content in (("before", text), ("after", condarc(text, CHANNELS))):
        files.append(tmp_path / f"{name}.yml")
        files[-1].write_bytes(content.encode())
    before, after = conda.reads(*files)
    assert after["urls"].pop("conda-forge")[1] == f"{CHANNELS}/conda-forge/noarch"
    others = {name: urls for name, urls in before["urls"].items() if "conda-forge" not in name and name != "defaults"}
    assert {name: urls for name, urls in after["urls"].items() if name != "defaults"} == others
    assert "conda-forge" in str(after["channels"])
    assert "old.example" not in str(after)
    assert after["ssl_verify"] == before["ssl_verify"]


@pytest.mark.parametrize("edit", [condarc, mambarc])
@pytest.mark.parametrize("text", CONDARC.values(), ids=CONDARC)
def test_yaml_says_the_same_and_ours(text: str, edit: Edit) -> None:
    load = YAML(typ="safe", pure=True).load
    before, after = load(text.removeprefix("\ufeff")) or {}, load(edit(text, CHANNELS).removeprefix("\ufeff"))
    assert after.pop("custom_channels") == {**(before.pop("custom_channels", None) or {}), "conda-forge": CHANNELS}
    named = ["conda-forge" if "conda-forge" in name else name for name in before.pop("channels", None) or []]
    assert after.pop("channels") == (named if "conda-forge" in named else ["conda-forge", *named])
    mirrored = before.pop("mirrored_channels", {})
    if mirrored:
        mirrored["conda-forge"].insert(0, f"{CHANNELS}/conda-forge")
    assert after.pop("mirrored_channels", {}) == mirrored
    assert after == before


def test_a_switch_from_one_mirror_to_another_leaves_nothing_of_the_first() -> None:
    for edit in (pip_conf, uv_toml, condarc, mambarc):
        assert "first" not in edit(edit("", "https://first.example/x"), "https://second.example/x")


@pytest.mark.parametrize(("edit", "url", "text"), CASES)
def test_verification_is_never_switched_off(edit: Edit, url: str, text: str) -> None:
    new = edit(text, url)
    for word in ("trusted-host", "allow-insecure-host", "ssl_verify"):
        assert new.count(word) == text.count(word)


@pytest.mark.parametrize(
    ("edit", "text", "problem"),
    [
        (pip_conf, "timeout = 5\n", "here.conf, line 1: not what pip can read"),
        (pip_conf, "[global]\nx = 1\nnonsense\n", "here.conf, line 3"),
        (pip_conf, "[a]\nx = 1\nx = 2\n", "here.conf, line 3"),
        (pip_conf, "[global]\nx = 1\n[global]\ny = 2\n", "here.conf, line 3: not what pip can read"),
        (pip_conf, "\ufeff[global]\n", "here.conf, line 1: begins with a byte order mark"),
        (uv_toml, "a = 1\nb = \n", "here.conf, line 2: not TOML"),
        (uv_toml, "x = [\n", "here.conf, line 1: not TOML: it ends in the middle of a value"),
        (uv_toml, "index = 3\n", "here.conf: `index` is not a list of tables"),
        (
            uv_toml,
            "x = '''\n[[index]]\n'''\n[[index]]\nurl = 'u'\ndefault = true\n",
            "here.conf: its form is too unusual",
        ),
        (condarc, "a: 1\nb: [\n", "here.conf, line 3: not YAML"),
        (condarc, "a:\n\t- b\n", "here.conf, line 2: not YAML"),
        (condarc, "a: &b {c: d}\n<<: *b\ncustom_channels: &d\n  x: y\ne: *d\n", "its form is too unusual"),
        (condarc, "mirrored_channels: {conda-forge: [a], b: &x [c]}\nd: 1\n...\n", "its form is too unusual"),
        (condarc, "- a\n", "here.conf, line 1: not one `key: value` a line"),
        (condarc, "{a: 1}\n", "here.conf, line 1: not one `key: value` a line"),
        (condarc, "a: 1\nchannels: x\n", "here.conf, line 2: channels is not a list"),
        (condarc, "custom_channels: [x]\n", "here.conf, line 1: custom_channels is not a mapping"),
        (condarc, "a: &b\n  - x\nchannels: *b\n", "here.conf: its form is too unusual"),
        (condarc, "a: 1\n...\n", "here.conf: its form is too unusual"),
        (mambarc, "a: 1\na: 2\n", "here.conf, line 2: not YAML"),
    ],
)
def test_a_text_that_cannot_be_edited_is_named_with_its_line(
    edit: Callable[[str, str, str], str], text: str, problem: str
) -> None:
    with pytest.raises(BadConfig) as caught:
        edit(text, "https://a.example/x", "here.conf")
    assert problem in str(caught.value)
    assert caught.value.hint
