"""Making locks: uv resolves from an index on loopback, and the lock keeps what the builds' platforms can install."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bootstrap.errors import SetupError
from bootstrap.locking import platforms, text
from bootstrap.locking.builds import Build
from bootstrap.locking.index import Index
from bootstrap.locking.resolve import resolve
from bootstrap.locking.text import Entry
from bootstrap.torch_builds import Platform, find
from mirrors import lock as locks
from tests.mirrors.loopback import LoopbackMirror
from tests.small_wheels import small_wheel

LINUX = Platform("Linux", "x86_64", ("3.11", "3.12"))
MAC = Platform("Darwin", "arm64", ("3.12",))
A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("filename", "linux", "mac"),
    [
        ("a-1-py3-none-any.whl", True, True),
        ("a-1-py2.py3-none-any.whl", True, True),
        ("a-1-py2-none-any.whl", False, False),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True, False),
        ("a-1-cp312-cp312-linux_x86_64.whl", True, False),
        ("a-1-cp313-cp313-manylinux_2_28_x86_64.whl", False, False),
        ("a-1-cp312-cp312t-manylinux_2_28_x86_64.whl", False, False),
        ("a-1-cp310-abi3-manylinux_2_28_x86_64.whl", True, False),
        ("a-1-cp313-abi3-manylinux_2_28_x86_64.whl", False, False),
        ("a-1-cp312-cp312-manylinux_2_28_aarch64.whl", False, False),
        ("a-1-cp312-cp312-musllinux_1_2_x86_64.whl", False, False),
        ("a-1-py3-none-macosx_11_0_arm64.whl", False, True),
        ("a-1-cp312-cp312-macosx_10_9_universal2.whl", False, True),
        ("a-1-cp312-cp312-macosx_10_9_x86_64.whl", False, False),
        ("a-1-cp312-cp312-win_amd64.whl", False, False),
        ("a-1.tar.gz", False, False),
    ],
)
def test_a_lock_keeps_the_wheels_that_its_platforms_can_install(filename: str, linux: bool, mac: bool) -> None:
    assert platforms.fits(filename, [LINUX]) is linux
    assert platforms.fits(filename, [MAC]) is mac


def test_a_marker_narrows_the_platforms_and_their_pythons() -> None:
    marker = Requirement("a ; python_full_version < '3.12' or sys_platform == 'darwin'").marker
    assert platforms.where(marker, [LINUX, MAC]) == [Platform("Linux", "x86_64", ("3.11",)), MAC]
    assert platforms.where(Requirement("a ; sys_platform == 'win32'").marker, [LINUX, MAC]) == []


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    wheels = {"a-1-py3-none-any.whl": A, "a-1-cp312-cp312-linux_x86_64.whl": B}
    entries = [
        Entry(Requirement("torch==2+rocm ; sys_platform == 'linux'")),
        Entry(Requirement("A==1 ; python_version > '3'"), wheels),
        Entry(Requirement("b==1"), hashes=frozenset({A})),
    ]
    path = tmp_path / "lock.txt"
    path.write_text(text.rendered(entries, "from nowhere."), encoding="utf-8")
    assert [(pin.name, set(pin.sha256s), set(pin.names)) for pin in locks.read(path)] == [
        ("a", {A, B}, set(wheels.items())),
        ("b", {A}, {("a-1-py3-none-any.whl", A)}),
    ]
    assert [found.name for found in locks.to_learn(path)] == ["torch"]
    assert text.named(path.read_text()) == wheels
    assert text.source_of(path.read_text()) == "from nowhere."
    assert [str(found.specifier) for found, _ in text.compiled(path.read_text())] == ["==1", "==1"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", server.index_url)
        for name in ("alpha", "beta"):
            server.add(*small_wheel(name))
        yield server


def test_requirements_are_resolved_to_wheels_with_names_and_hashes(server: LoopbackMirror) -> None:
    requirements = ["alpha>=0.5", "beta ; sys_platform == 'linux'", "absent ; sys_platform == 'win32'"]
    server.add("absent-1.0-cp312-cp312-win_amd64.whl", small_wheel("absent")[1])
    entries = resolve(requirements, Index(server.index_url), [LINUX])
    assert [(entry.name, entry.version, dict(entry.wheels)) for entry in entries] == [
        (name, "1.0", {small_wheel(name)[0]: hashlib.sha256(small_wheel(name)[1]).hexdigest()})
        for name in ("alpha", "beta")
    ]


def test_versions_of_the_present_lock_are_kept_where_that_is_asked_for(server: LoopbackMirror) -> None:
    server.add(*small_wheel("alpha", version="2.0"))
    where = Index(server.index_url)
    assert [entry.version for entry in resolve(["alpha"], where, [LINUX])] == ["2.0"]
    assert [entry.version for entry in resolve(["alpha"], where, [LINUX], ["alpha==1.0"])] == ["1.0"]


def test_a_package_without_a_wheel_for_the_platforms_is_an_error(server: LoopbackMirror) -> None:
    server.add("gamma-1.0-cp312-cp312-macosx_11_0_arm64.whl", small_wheel("gamma")[1])
    with pytest.raises(SetupError, match=r"gamma==1\.0 has no wheel for Linux on x86_64"):
        resolve(["gamma"], Index(server.index_url), [LINUX])


def test_requirements_that_nobody_can_meet_are_uvs_error(server: LoopbackMirror) -> None:
    with pytest.raises(SetupError, match="could not resolve"):
        resolve(["alpha>=3"], Index(server.index_url), [LINUX])


TORCH = "torch-2.13.0+cu126-cp312-cp312-manylinux_2_28_x86_64.whl"


@pytest.fixture
def pytorch() -> Iterator[LoopbackMirror]:
    """A server that stands for PyTorch's own index."""
    with LoopbackMirror() as server:
        yield server


def test_torchs_own_wheels_and_what_they_require_are_read_where_they_are_published(pytorch: LoopbackMirror) -> None:
    requires = b"Requires-Dist: filelock\nRequires-Dist: triton==3; platform_system == 'Linux'\n"
    pytorch.add(TORCH, b"torch")
    pytorch.add(TORCH.replace("cp312", "cp310"), b"of a Python that is not ours")
    pytorch.serve(f"/files/{TORCH}.metadata", b"Metadata-Version: 2.1\nName: torch\n" + requires)
    build = Build(find("cu126"), "2.13.0", Index(pytorch.index_url))
    assert build.requires() == ("triton==3; platform_system == 'Linux'",)
    (entry,) = build.own(build.requires() or (), {TORCH: A})
    assert dict(entry.wheels) == {TORCH: hashlib.sha256(b"torch").hexdigest()}


def test_where_it_cannot_be_reached_the_wheels_of_the_present_lock_are_kept(
    pytorch: LoopbackMirror, capsys: pytest.CaptureFixture[str]
) -> None:
    pytorch.stop()
    build = Build(find("cu126"), "2.13.0", Index(pytorch.index_url))
    assert "cannot be reached" in capsys.readouterr().out
    required = build.requires()
    assert required is not None
    (entry,) = build.own(required, {TORCH: A, "torch-2.12.0+cu126-cp312-cp312-manylinux_2_28_x86_64.whl": B})
    assert dict(entry.wheels) == {TORCH: A}
    assert "sys_platform" in str(entry.requirement.marker)


def test_what_another_version_requires_is_not_guessed(pytorch: LoopbackMirror) -> None:
    pytorch.stop()
    assert Build(find("cu126"), "2.14.0", Index(pytorch.index_url)).requires() is None
