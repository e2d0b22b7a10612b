"""What users write for conda: environment.yml and lists that pin packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.backends import conda
from bootstrap.backends.conda import environment, packages
from bootstrap.backends.conda.packages import CondaPackage
from bootstrap.errors import UsageProblem
from mirrors.errors import BadMirror

SHA = "a" * 64
LINUX = "https://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-hb806964_0_cpython.conda"
CONDA_LOCK = f"""
version: 1
metadata: {{platforms: [linux-64, osx-arm64]}}
package:
- {{name: python, version: 3.11.9, manager: conda, platform: linux-64, url: "{LINUX}", hash: {{md5: x, sha256: {SHA}}}}}
- {{name: python, version: 3.11.9, manager: conda, platform: osx-arm64,
   url: "{LINUX.replace("linux-64", "osx-arm64")}", hash: {{sha256: {SHA}}}}}
"""


def written(directory: Path, text: str, name: str = "environment.yml") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_environment_asks_for_the_runtime_from_conda_forge() -> None:
    wanted = environment.read(conda.shipped())
    assert wanted.channels == ("conda-forge",)
    assert "python=3.11" in wanted.specs
    assert any(spec.startswith("pytorch>=") for spec in wanted.specs)


def test_a_users_environment_is_read_without_what_only_conda_needs(tmp_path: Path) -> None:
    text = "name: x\nprefix: /opt/x\nchannels: [nvidia, conda-forge, nodefaults]\ndependencies: [python=3.12, pip]\n"
    wanted = environment.read(written(tmp_path, text))
    assert (wanted.channels, wanted.specs) == (("nvidia", "conda-forge"), ("python=3.12", "pip"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("channels: [conda-forge]\n", "has no list of dependencies"),
        ("dependencies: [python]\n", "names no channels"),
        ("channels: [nodefaults]\ndependencies: [python]\n", "names no channels"),
        ("channels: [defaults]\ndependencies: [python]\n", "`defaults` is not published for redistribution"),
        ("channels: [conda-forge]\ndependencies: [python, {pip: [x]}]\n", "pip section"),
        ("channels: [conda-forge]\ndependencies: ['conda-forge::python']\n", "names a channel of its own"),
        ("channels: [conda-forge]\ndependencies: ['--file=/etc/passwd']\n", "is no dependency"),
        ("channels: ['-c']\ndependencies: [python]\n", "is no channel"),
        ("channels: [a/../b]\ndependencies: [python]\n", "is no channel"),
        ("channels: ['https://me:secret@host/x']\ndependencies: [python]\n", "must not carry a password"),
        ("channels: ['https://host/t/secret/x']\ndependencies: [python]\n", "must not carry a password"),
        ("channels: [conda-forge]\nvariables: {A: b}\ndependencies: [python]\n", "'variables' cannot be carried out"),
        ("- just\n- a list\n", "has no list of dependencies"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_a_hint(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match=says) as refused:
        environment.read(written(tmp_path, text))
    assert refused.value.hint
    assert "secret" not in str(refused.value)


def test_a_channel_over_plain_http_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadMirror, match="plain http"):
        environment.read(written(tmp_path, "channels: ['http://host.example/x']\ndependencies: [python]\n"))


def test_a_list_is_read_back_as_it_was_written_and_names_no_mirror(tmp_path: Path) -> None:
    mine = (
        CondaPackage("conda-forge", "linux-64", "python-3.11.9-hb806964_0_cpython.conda", SHA, 12345),
        CondaPackage("conda-forge/label/rc", "noarch", "my-long-name-1!2.0+x-py_0.tar.bz2", "b" * 64),
        CondaPackage("https://corp.example/channel", "noarch", "own-1.0-0.conda", "c" * 64),
    )
    path = written(tmp_path, packages.write(mine, "a test"), "list.txt")
    assert packages.read(path, "linux-64") == mine
    assert packages.is_list(path)
    assert LINUX in path.read_text(encoding="utf-8")
    assert [(it.name, it.version, it.build) for it in mine[:2]] == [
        ("python", "3.11.9", "hb806964_0_cpython"),
        ("my-long-name", "1!2.0+x", "py_0"),
    ]


def test_a_list_with_a_mirrors_addresses_is_known_by_its_channel(tmp_path: Path) -> None:
    mirrored = LINUX.replace("https://conda.anaconda.org", "https://mirrors.tuna.tsinghua.edu.cn/anaconda/cloud")
    path = written(tmp_path, f"# from conda list\n@EXPLICIT\n{mirrored}#sha256:{SHA}\n", "list.txt")
    assert packages.read(path, "linux-64")[0].channel == "conda-forge"


def test_a_conda_lock_is_read_for_this_kind_of_machine(tmp_path: Path) -> None:
    path = written(tmp_path, CONDA_LOCK, "conda-lock.yml")
    assert packages.is_list(path)
    (found,) = packages.read(path, "osx-arm64")
    assert (found.subdir, found.sha256) == ("osx-arm64", SHA)
    with pytest.raises(UsageProblem, match="has no conda package for win-64"):
        packages.read(path, "win-64")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", f"@EXPLICIT\n{LINUX}\n", "line 2: .* has no sha256 behind it"),
        ("a.txt", f"@EXPLICIT\n{LINUX}#{'a' * 32}\n", "has no sha256 behind it"),
        ("a.txt", "numpy==1.0\n", "it has no @EXPLICIT"),
        ("a.txt", f"@EXPLICIT\n{LINUX.replace('linux-64', 'win-64')}#{SHA}\n", "has .* for win-64"),
        ("a.txt", f"@EXPLICIT\nhttps://host.example/x/noarch/..%2f-1-0.conda#{SHA}\n", "is no conda package"),
        ("a.yml", CONDA_LOCK.replace("manager: conda", "manager: pip"), "is a package of pip"),
        ("a.yml", CONDA_LOCK.replace("sha256", "sha1"), "is not a conda-lock.yml with sha256"),
        ("a.yml", "package: 3\n", "is not a conda-lock.yml with sha256"),
        ("a.yml", "package: [", "is not a conda-lock.yml with sha256"),
    ],
)
def test_a_list_that_does_not_pin_every_file_is_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match=says):
        packages.read(written(tmp_path, text, name), "linux-64")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read: No such file"):
        packages.is_list(tmp_path / "nothing.yml")
