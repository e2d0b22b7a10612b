"""Configuration texts: only our keys change, and the real pip and uv read what we wrote."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mirrors.configs import condarc, mambarc, pip_conf, uv_toml
from mirrors.errors import BadConfig

INDEX = "https://me:p%40ss@index.corp.example/pypi/simple"
CHANNELS = "https://index.corp.example/anaconda/cloud"
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))

PIP = {
    "empty": "",
    "comments": "# mine\n[global]\n; and this\ntimeout = 5\n\n# about install\n[install]\nuser = no\n",
    "a command's own": "[global]\ntimeout = 5\n\n[install]\nindex-url = https://old.example/simple\n",
    "value": "[global]\nindex-url = https://old.example/simple\ntrusted-host = old.example\n",
    "spelling": "[global]\nIndex_URL : https://old.example/simple\ntimeout: 5\n",
    "several lines": "[global]\nindex-url =\n    https://old.example/simple\n    # in between\ntimeout = 5\n",
    "extra": "[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n",
    "other sections": "[install]\nuser = no\n\n\n",
    "crlf": "[global]\r\ntimeout = 5\r\n[list]\r\nformat = columns\r\n",
    "mixed": "[global]\r\ntimeout = 5\n\r\n[list]\nformat = columns\r\n",
    "bom": "\ufeff[global]\ntimeout = 5\n",
    "no newline": "[global]\ntimeout = 5",
    "empty section": "[global]\n\n[list]\nformat = columns\n",
}
UV_TOML = {
    "empty": "",
    "torch first": (
        "# torch\n[[index]]\nname = 'pytorch-cu128'   # ours\n"
        'url = "https://torch.example/whl/cu128"\nexplicit = true\n'
    ),
    "torch and default": (
        "offline = false\n\n[[index]]\nname = 'pytorch-cu128'\nurl = 'https://torch.example/whl'\nexplicit = true\n\n"
        "[pip]\nsystem = true  # kept\n\n"
        "[[index]]\nname='main'\nurl   = 'https://old.example/simple' # old\ndefault = true\n"
    ),
    "older key and newer": (
        "index-url = 'https://old.example/older'\n[[index]]\nurl = 'https://old.example/simple'\ndefault = true\n"
    ),
    "older key": "index-url = 'https://old.example/simple' # older\nextra-index-url = ['https://a.example/simple']\n",
    "inline": (
        "index = [{ url = 'https://a.example/simple' },\n"
        "  # c\n  { url = 'https://old.example/simple', default = true }]\n"
    ),
    "inline without default": "index = [{ url = 'https://a.example/simple' }]\nnative-tls = true\n",
    "crlf": "native-tls = true\r\n\r\n[pip]\r\nsystem = true\r\n",
    "bom": "\ufeffnative-tls = true\n",
    "no newline": "[[index]]\nurl = 'https://old.example/simple'\ndefault = true",
    "no newline, none": "[pip]\nsystem = true",
}
CONDARC = {
    "empty": "",
    "comment only": "# nothing yet\n",
    "block": "# mine\nchannels:\n  - defaults  # first\n  - bioconda\nssl_verify:   true\n",
    "block at the margin": "channels:\n- bioconda\n- defaults\nshow_channel_urls: yes\n",
    "flow": "channels: [bioconda,  defaults] #!final\ncustom_channels: {bioconda: 'https://a.example'}\n",
    "value": "custom_channels:\n    conda-forge: 'https://old.example/cloud'  # old\n    nvidia: https://n.example\n",
    "null": "channels:   # none\ncustom_channels: ~\nauto_activate_base: false\n",
    "final": "channels: #!final\n  - conda-forge #!top\n",
    "document": "---\nchannels:\n  - conda-forge\n",
    "crlf": "channels:\r\n  - defaults\r\npip_interop_enabled: true\r\n",
    "bom": "\ufeffchannels:\n  - defaults\n",
    "no newline": "channels:\n  - defaults",
    "empty lists": "channels: []\ncustom_channels: {}\n",
}

Edit = Callable[[str, str], str]
CASES = [
    *(pytest.param(pip_conf, INDEX, text, id=f"pip {name}") for name, text in PIP.items()),
    *(pytest.param(uv_toml, INDEX, text, id=f"uv {name}") for name, text in UV_TOML.items()),
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
        "index-url",
        "Index_URL",
        "index =",
        "url ",
        "channels",
        "custom_channels",
        "conda-forge",
        "https://old.example",
        "{ url",
    )
    last = before[-1].strip() if before and not text.endswith("\n") else None  # gets a line end of its own
    assert [line for line in lost if line != last and not line.startswith(("# in between", *ours))] == []
    assert new.startswith("\ufeff") == text.startswith("\ufeff")
    assert new.endswith("\n") == (text.endswith("\n") or not text)
    if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
        assert "\n" not in new.replace("\r\n", "")
    for comment in (
        "mine",
        "and this",
        "about install",
        "in between",
        "ours",
        "kept",
        "older",
        "first",
        "#!final",
        "#!top",
    ):
        assert new.count(comment) == text.count(comment)


@pytest.mark.parametrize("text", [text for name, text in PIP.items() if name != "bom"])  # pip refuses a mark at all
def test_pip_reads_it(text: str, tmp_path: Path) -> None:
    before, after = pip_settings(text, tmp_path), pip_settings(pip_conf(text, INDEX), tmp_path)
    assert after.pop("global.index-url") == INDEX
    assert after.pop("install.index-url", INDEX) == INDEX
    ours = ("global.index-url", "install.index-url")
    assert after == {key: value for key, value in before.items() if key not in ours}


@pytest.mark.parametrize("text", UV_TOML.values(), ids=UV_TOML)
def test_uv_reads_it(text: str, tmp_path: Path) -> None:
    indexes = uv_indexes(uv_toml(text, "https://index.corp.example/simple"), tmp_path)
    assert next(url for url, default in indexes if default) == "https://index.corp.example/simple"
    others = [(url, default) for url, default in uv_indexes(text, tmp_path) if not default]
    assert [(url, default) for url, default in indexes if not default] == others


@pytest.mark.parametrize("edit", [condarc, mambarc])
@pytest.mark.parametrize("text", CONDARC.values(), ids=CONDARC)
def test_yaml_says_the_same_and_ours(text: str, edit: Edit) -> None:
    load = YAML(typ="safe", pure=True).load
    before, after = load(text.removeprefix("\ufeff")) or {}, load(edit(text, CHANNELS).removeprefix("\ufeff"))
    assert after.pop("custom_channels") == {**(before.pop("custom_channels", None) or {}), "conda-forge": CHANNELS}
    channels = before.pop("channels", None) or []
    assert after.pop("channels") == (channels if "conda-forge" in channels else ["conda-forge", *channels])
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
        (uv_toml, "a = 1\nb = \n", "here.conf, line 2: not TOML"),
        (uv_toml, "index = 3\n", "here.conf: `index` is not a list of tables"),
        (
            uv_toml,
            "x = '''\n[[index]]\n'''\n[[index]]\nurl = 'u'\ndefault = true\n",
            "here.conf: its form is too unusual",
        ),
        (condarc, "a: 1\nb: [\n", "here.conf, line 3: not YAML"),
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


def pip_settings(text: str, directory: Path) -> dict[str, str]:
    """What the real pip makes of a pip.conf."""
    path = directory / "pip.conf"
    path.write_bytes(text.encode())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": str(path), "HOME": str(directory), "XDG_CONFIG_DIRS": str(directory)}
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    return {key: value[1:-1].strip("\n") for key, _, value in (line.partition("=") for line in lines)}


def uv_indexes(text: str, directory: Path) -> list[tuple[str, bool]]:
    """The indexes that the real uv takes from a uv.toml, and which is the default."""
    path = directory / "uv.toml"
    path.write_bytes(text.encode())
    command = [UV, "--config-file", str(path), "pip", "compile", "--show-settings", "-"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, input="").stdout
    section = shown[shown.index("index_locations: ") : shown.index("flat_index: ")]
    found = re.findall(r'given: Some\(\s*"([^"]*)".*?\bdefault: (true|false)', section, re.DOTALL)
    return [(url, default == "true") for url, default in found]
