"""The wheel as users get it: built, installed into an empty environment, and used there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from bootstrap import pip_settings
from bootstrap.packages import PackageSources
from tests.conftest import ROOT

SHIPPED = (
    "runtime/demo/manifest.json",
    "runtime/locks/cpu.txt",
    "runtime/locks/cu130.txt",
    "images/Dockerfile",
    "images/Dockerfile.dockerignore",
    "bootstrap/environment.yml",
)
BOUNDS = ("highest", "lowest-direct")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), str(ROOT))
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="session", params=BOUNDS)
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its dependencies only: the newest, or the oldest that are allowed."""
    path = tmp_path_factory.mktemp("wheel") / "env"
    settings = pip_settings.read()
    carried = PackageSources("", settings.index_url or "", cert=settings.cert, proxy=settings.proxy).environ()
    if settings.index_url:
        carried["UV_DEFAULT_INDEX"] = settings.index_url
    run(uv.find_uv_bin(), "venv", "--python", sys.executable, str(path))
    python = str(path / "bin" / "python")
    run(uv.find_uv_bin(), "pip", "install", "--python", python, "--resolution", request.param, str(wheel), env=carried)
    return path


def test_the_installed_tool_has_its_data_files(environment: Path) -> None:
    (site,) = environment.glob("lib/python*/site-packages")
    assert [name for name in SHIPPED if not (site / name).is_file()] == []
    assert list((site / "runtime" / "demo").rglob("*.safetensors"))
    assert not (site / "tests").exists()


def test_the_installed_tool_answers_and_detects_without_a_heavy_dependency(environment: Path, tmp_path: Path) -> None:
    command = str(environment / "bin" / "i2v-setup")
    home = {"I2V_SETUP_HOME": str(tmp_path)}
    assert "first frame" in run(command, "--help", env=home)
    found = json.loads(run(command, "detect", "--json", "--offline", env=home))
    assert found["machine"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "tuna" in run(command, "mirrors", env=home)
    plan = json.loads(run(command, "install", "--torch", "cpu", "--dry-run", "--json", env=home))
    assert [step["phase"] for step in plan["steps"]][-1] == "current"
    assert not list(environment.glob("lib/python*/site-packages/torch"))


def run(*command: str, env: dict[str, str] | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, env={**clean, **(env or {})}, cwd="/", capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
