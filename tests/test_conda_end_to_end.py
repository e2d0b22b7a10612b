"""An environment from conda's channels as a user makes it: real packages of this very machine, two loopback mirrors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootstrap.backends import conda
from bootstrap.backends.conda import environment
from bootstrap.state import Home
from tests.bootstrap.conda_world import know
from tests.conda_channel import PYTHON, Package, closure, distribution_package, package, publish, python_package
from tests.conda_programs import installed
from tests.conftest import HAS_RUNTIME, PHOTO, tool_in
from tests.mirrors.loopback import LoopbackMirror


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped environment.yml, for the Python that the tests run with."""
    shipped = environment.read(conda.shipped())
    specs = [f"python={PYTHON}" if spec.startswith("python=") else spec for spec in shipped.specs]
    path = tmp_path_factory.mktemp("wanted") / "environment.yml"
    path.write_text(json.dumps({"channels": ["conda-forge"], "dependencies": specs}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, wanted: Path) -> list[Package]:
    """Python, and all that it takes of what is installed here."""
    directory = tmp_path_factory.mktemp("channel")
    specs = environment.read(wanted).specs
    names = [spec.partition(">")[0].partition("=")[0].replace("pytorch", "torch") for spec in specs[1:]]
    found = [distribution_package(directory, name) for name in closure(names)]
    return [python_package(directory), package(directory, "pip"), *found]


@pytest.mark.soak  # a minute, most of it for packing what is installed here
@pytest.mark.skipif(not HAS_RUNTIME, reason="needs the runtime's dependencies, to make packages of")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["rattler", "mamba"])
def test_the_shipped_environment_from_two_mirrors_makes_a_video(
    backend: str, wanted: Path, packages: list[Package], tmp_path: Path
) -> None:
    if backend != "rattler":
        installed(backend)
    home = tmp_path / "home"
    with LoopbackMirror() as upstream, LoopbackMirror() as other:
        for mirror in (upstream, other):
            publish(mirror, packages)
        know(Home(home, home / "cache", home / "state", home / "config"), {"upstream": upstream, "tuna": other})
        tool = tool_in(home)
        install = ("install", "--backend", backend, "--environment", str(wanted), "--torch", "cpu", "--yes")
        deployment = json.loads(tool(*install, "--json").stdout)
        phases = {timing["phase"] for timing in deployment["sections"][0]["timings"]}
        assert {"solve", "packages.download", "packages.link", "checks.generation", "current"} <= phases
        for mirror in (upstream, other):
            assert mirror.requested("*/pytorch-*")
            mirror.requests.clear()
        tool(*install)
        assert upstream.requests == other.requests == []
    current = home / "current"
    assert json.loads((current / "generation.json").read_text(encoding="utf-8"))["backend"] == backend
    configured = (current / ".condarc").read_text(encoding="utf-8")
    assert any(mirror.base in configured for mirror in (upstream, other))
    video = tmp_path / "video.mp4"
    tool("generate", str(PHOTO), "-o", str(video), "--size", "64x64", "--steps", "1", "--frames", "2")
    assert video.stat().st_size > 0
