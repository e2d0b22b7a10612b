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
    path = tmp_path_factory.mktemp(request.param) / "env"
    run(uv.find_uv_bin(), "venv", "--python", sys.executable, str(path))
    python = str(path / "bin" / "python")
    run(
        uv.find_uv_bin(),
        "pip",
        "install",
        "--python",
        python,
        "--resolution",
        request.param,
        str(wheel),
        env=index_settings(),
    )
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


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("environment", ["lowest-direct"], indirect=True)
def test_the_tools_own_tests_pass_with_the_oldest_dependencies_that_it_allows(environment: Path) -> None:
    python = str(environment / "bin" / "python")
    run(uv.find_uv_bin(), "pip", "install", "--python", python, "pytest", "pytest-timeout", "pip", env=index_settings())
    tested = ["tests/mirrors", "tests/bootstrap", "tests/test_house.py"]
    # Whole installations, in which the tool's own dependencies decide nothing that the others do not try.
    tested += [f"--ignore=tests/bootstrap/test_{name}.py" for name in ("bundle", "verify", "conda_install", "page")]
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tested, cwd=ROOT, env={"CI": ""})


def index_settings() -> dict[str, str]:
    """The user's pip settings, for uv."""
    pip = pip_settings.read()
    carried = PackageSources("", pip.index_url or "", cert=pip.cert, proxy=pip.proxy).environ()
    return {**carried, "UV_DEFAULT_INDEX": pip.index_url} if pip.index_url else carried


def run(*command: str, env: dict[str, str] | None = None, cwd: Path = Path("/")) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, env={**clean, **(env or {})}, cwd=cwd, capture_output=True, text=True, check=False, timeout=1700
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
