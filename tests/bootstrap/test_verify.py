"""What `env verify` says of a real environment and a real model that were damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Tool, tool_in


@pytest.fixture
def site(installed: Path) -> Path:
    """Where the packages of the session's environment lie."""
    (found,) = (installed / "current").resolve().glob("lib/python*/site-packages")
    return found


@contextmanager
def without(path: Path, instead: bytes | None = None) -> Iterator[None]:
    """The file is gone, or is another one, as long as the block lasts; the one in uv's cache stays as it is."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        if instead is not None:
            path.write_bytes(instead)
        yield
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)


def unrecorded(record: Path, path: Path, site: Path) -> bytes:
    """A RECORD without a file, as if the package had come without it."""
    name = path.relative_to(site).as_posix()
    kept = [line for line in record.read_text().splitlines(keepends=True) if not line.startswith(f"{name},")]
    return "".join(kept).encode()


def refused(tool: Tool) -> str:
    """What the command says of an environment that is damaged."""
    done = tool("env", "verify", check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr[done.stderr.index("error: ") :]


def flipped(data: bytes) -> bytes:
    """As many bytes, and one of them another one, in the middle."""
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]


def test_a_whole_environment_says_so_and_when(tool: Tool) -> None:
    told = json.loads(tool("env", "verify", "--json").stdout)
    assert told["model"] == "demo"
    assert told["device"].startswith("CPU")
    assert "torch" in told["versions"]


def test_a_file_of_a_package_that_is_gone_is_named_with_its_package(site: Path, tool: Tool) -> None:
    with without(site / "huggingface_hub" / "constants.py"):
        told = refused(tool)
    assert "the package huggingface_hub is damaged: huggingface_hub/constants.py is gone" in told
    assert "install --rebuild" in told


def test_a_file_of_a_package_with_other_bytes_of_the_same_length_is_named(site: Path, tool: Tool) -> None:
    file = site / "transformers" / "activations.py"
    with without(file, flipped(file.read_bytes())):
        told = refused(tool)
    assert "the package transformers is damaged: transformers/activations.py has other bytes" in told


@pytest.mark.parametrize(
    ("pattern", "package"), [("torch/lib/libtorch_cpu.so", "torch"), ("av.libs/libavformat*", "av")]
)
def test_a_shared_library_that_is_gone_is_named(pattern: str, package: str, site: Path, tool: Tool) -> None:
    (library,) = site.glob(pattern)
    with without(library):
        told = refused(tool)
    assert f"the package {package} is damaged: {library.relative_to(site)} is gone" in told


def test_a_shared_library_that_no_package_brought_is_named_by_what_needs_it(site: Path, tool: Tool) -> None:
    (library,), (record,) = site.glob("av.libs/libavformat*"), site.glob("av-*.dist-info/RECORD")
    with without(record, unrecorded(record, library, site)), without(library):
        told = refused(tool)
    assert f"cannot import av (from av): the shared library {library.name} is not there" in told
    assert "the system's package manager" in told


def test_a_module_that_no_package_brought_is_named_by_who_needs_it(site: Path, tool: Tool) -> None:
    file, (record,) = site / "huggingface_hub" / "constants.py", site.glob("huggingface_hub-*.dist-info/RECORD")
    with without(record, unrecorded(record, file, site)), without(file):
        told = refused(tool)
    assert "the module huggingface_hub.constants is not there (of huggingface" in told


def test_flipped_bytes_in_a_weight_file_are_found_and_the_next_installation_mends_them(
    installed: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(installed, home, symlinks=True, ignore=shutil.ignore_patterns("envs", "store"))
    (home / "envs").symlink_to(installed / "envs")
    (home / "current").unlink()
    (home / "current").symlink_to((installed / "current").resolve())
    tool = tool_in(home)
    (file,) = home.glob("cache/models/demo-*/unet/*.safetensors")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(flipped(whole))
    told = refused(tool)
    assert f"the model demo is damaged: unet/{file.name} has other bytes than were installed" in told
    assert "i2v-setup install --model demo" in told
    assert not file.exists()
    assert tool("generate", "x.jpg", "-o", "x.mp4", check=False).returncode != 0
    tool("install", "--torch", "cpu", "--yes")
    assert file.read_bytes() == whole
