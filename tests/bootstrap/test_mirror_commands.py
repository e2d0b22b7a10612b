from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from bootstrap import plan, torch_builds
from tests.conftest import Invoke
from tests.mirrors.loopback import Fault, LoopbackMirror

PIP_CONF = "# mine\n[global]\ntimeout = 60\nindex-url = https://old.example/simple  ; the old one\n"
UV_TOML = '# mine\n[[index]]\nname = "pytorch-cu128"\nurl = "https://download.pytorch.org/whl/cu128"\nexplicit = true\n'


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    """A mirror that lists the file which the lock pins, and serves something that begins like it."""
    (pin,) = (pin for pin in plan.pins(torch_builds.find("cpu"), "3.11") if pin.name == "transformers")
    with LoopbackMirror() as mirror:
        name = f"transformers-{pin.version}-py3-none-any.whl"
        mirror.add(name, b"PK" + bytes(300_000), listed_sha256=min(pin.sha256s))
        yield mirror


@pytest.fixture
def files(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A user's own pip.conf and uv.toml."""
    config = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    found = {"pip": config / "pip" / "pip.conf", "uv": config / "uv" / "uv.toml"}
    for name, text in (("pip", PIP_CONF), ("uv", UV_TOML)):
        found[name].parent.mkdir(parents=True)
        found[name].write_text(text, encoding="utf-8")
    return found


def test_a_mirror_is_written_for_pip_and_uv_and_undo_gives_the_very_bytes_back(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 0, done.output
    environment = {**os.environ, "PIP_CONFIG_FILE": str(files["pip"])}
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert f"global.index-url='{mirror.index_url}'" in listing
    assert "global.timeout='60'" in listing
    settings = subprocess.run(
        [uv.find_uv_bin(), "--config-file", str(files["uv"]), "pip", "compile", "--show-settings", "-"],
        input="", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert mirror.index_url.split("/")[2].split(":")[1] in settings
    assert "pytorch-cu128" in files["uv"].read_text(encoding="utf-8")
    undone = invoke("undo")
    assert undone.output.count("restored") == 2
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
    assert files["uv"].read_text(encoding="utf-8") == UV_TOML


def test_a_dry_run_shows_the_difference_and_writes_nothing(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "-index-url = https://old.example/simple" in done.output
    assert f"+index-url = {mirror.index_url}" in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
    assert "nothing to undo" in invoke("undo").output


def test_undo_leaves_a_file_alone_that_was_changed_since(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    files["pip"].write_text("[global]\nindex-url = https://newer.example/simple\n", encoding="utf-8")
    undone = invoke("undo")
    assert "changed-since" in undone.output
    assert "newer.example" in files["pip"].read_text(encoding="utf-8")
    assert files["uv"].read_text(encoding="utf-8") == UV_TOML


@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault(status=403), "refuses"), (Fault(portal=True), "web page"), (Fault(status=404), "lacks transformers")],
)
def test_a_mirror_that_cannot_serve_the_lock_is_refused_with_the_reason_and_nothing_is_written(
    fault: Fault, says: str, files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    mirror.misbehave("/simple/*", fault)
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 1
    assert says in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF


def test_a_broken_file_of_the_users_is_named_and_nothing_is_written(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    files["uv"].write_text("[[index]\n", encoding="utf-8")
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 1
    assert str(files["uv"]) in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
