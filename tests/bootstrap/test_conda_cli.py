"""`install --backend …` as a user types it, as far as the plan. The whole path: tests/test_conda_end_to_end.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import state
from tests.bootstrap.conda_world import environment, know
from tests.conda_channel import SUBDIR, Package, package, publish
from tests.conftest import ROOT, Invoke
from tests.mirrors.loopback import LoopbackMirror


@pytest.fixture
def mirror(home: Path) -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as mirror:
        know(state.home(), {"upstream": mirror})
        yield mirror


@pytest.fixture
def python(tmp_path: Path, mirror: LoopbackMirror) -> Package:
    made = package(tmp_path / "channel", "python", "3.12.1", files={"share/x": bytes(200_000)}, subdir=SUBDIR)
    publish(mirror, [made])
    return made


def test_the_plan_names_the_packages_their_mirror_and_who_puts_them_together(
    home: Path, python: Package, tmp_path: Path, invoke: Invoke
) -> None:
    wanted = environment(tmp_path, "python")
    arguments = ["--torch", "cpu", "--backend", "rattler", "--environment", str(wanted), "--dry-run", "--json"]
    done = invoke("install", *arguments)
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["python"] == "3.12"
    (packages,) = (step for step in plan["steps"] if step["phase"] == "packages")
    assert packages["detail"].startswith("1 packages from upstream (http://127.0.0.1:")
    assert " by rattler, hash-locked (environment-linux-64-cpu-" in packages["detail"]
    assert "learnt the sha256 of 1 packages from upstream" in plan["warnings"]
    assert not (home / "config" / "conda").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "pip"], "there is no back end called 'pip'"),
        (["--environment", str(ROOT / "environment.yml")], "are for the conda back ends"),
        (["--backend", "rattler", "--environment", str(ROOT / "README.md")], "is neither an environment.yml nor"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(arguments: list[str], says: str, home: Path, invoke: Invoke) -> None:
    done = invoke("install", "--torch", "cpu", *arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert "hint: " in done.output


def test_a_program_that_is_not_there_is_said(home: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    done = invoke("install", "--torch", "cpu", "--backend", "micromamba", "--dry-run")
    assert done.exit_code == 1
    assert "micromamba is not on this machine" in done.output
    assert "--backend rattler" in done.output
