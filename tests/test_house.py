"""The rules of the house: who imports whom, what a start may cost, and what no file may say."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from mirrors import lock
from tests.conftest import ROOT

ALLOWED = {
    "bootstrap": (
        "bootstrap",
        "mirrors",
        "images",
        "runtime.models",
        "runtime.options",
        "runtime.formats",
        "runtime.bounds",
        "runtime.timing",
        "runtime.logs",
        "runtime.summary",
        "runtime.kept_jobs",
        "runtime.__version__",
    ),
    "images": ("images", "mirrors", "runtime.models", "runtime.__version__"),
    "mirrors": ("mirrors",),
    "runtime": ("runtime",),
}
HEAVY = ("torch", "docker", "fastapi", "ray", "requests", "diffusers")


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported(path)
        if name.split(".")[0] in ALLOWED and not any(name == ok or name.startswith(f"{ok}.") for ok in ALLOWED[folder])
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "module",
    [
        *("runtime.models", "runtime.options", "runtime.formats", "runtime.memory", "runtime.bounds", "runtime.timing"),
        *("runtime.logs", "runtime.summary", "runtime.kept_jobs"),
    ],
)
def test_what_the_tool_takes_from_the_runtime_needs_the_standard_library_only(module: str) -> None:
    code = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    tops = {name.split(".")[0] for name in done.stdout.split()}
    assert tops - {"runtime"} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["install", "--help"]])
def test_a_first_answer_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, json; from bootstrap.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in json.loads(done.stderr)} & set(HEAVY)


def test_no_tracked_file_names_the_host_of_the_package_index() -> None:
    host = urlsplit(PYPI_SIMPLE_ENDPOINT).hostname or ""
    assert host
    assert [str(path) for path in tracked() if host.encode() in path.read_bytes()] == []


def test_locks_hold_names_versions_and_hashes_only() -> None:
    for path in (ROOT / "runtime" / "locks").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text


def test_environment_yml_has_the_runtimes_dependencies_with_the_same_bounds() -> None:
    conda_names = {"torch": "pytorch", "prometheus-client": "prometheus_client"}
    # conda-forge builds everything against one protobuf, which is older than PyPI's newest.
    conda_bounds = {"protobuf": SpecifierSet(">=6")}
    expected = {
        conda_names.get(found.name, found.name): conda_bounds.get(found.name, found.specifier)
        for found in runtime_extra()
    }
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    found = {requirement.name: requirement.specifier for line in listed[1:] for requirement in [Requirement(line)]}
    assert found == expected


@pytest.mark.parametrize("build", ["cpu", "cu130"])
def test_the_locks_hold_the_runtimes_dependencies_at_their_lower_bounds(build: str) -> None:
    oldest = {"python_version": "3.11", "python_full_version": "3.11.0"}
    pinned = {pin.name: pin.version for pin in lock.read(ROOT / "runtime" / "locks" / f"{build}.txt", oldest)}
    for found in runtime_extra():
        assert found.specifier.contains(pinned[found.name])
        bound = next(spec.version for spec in found.specifier if spec.operator == ">=")
        assert pinned[found.name].startswith(bound), f"{found}: the bound is not the version that is tested"


def runtime_extra() -> list[Requirement]:
    lines = requires("i2v-setup") or []
    return [Requirement(line) for line in lines if 'extra == "runtime"' in line.replace("'", '"')]


def imported(path: Path) -> Iterator[str]:
    """All modules that a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in listing.decode().split("\0") if name and (path := ROOT / name).is_file()]
