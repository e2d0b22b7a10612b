"""What is said of a package's files by its own record, also where that record is what was damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from runtime import intact

SHA256 = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"  # of b"abc", as a RECORD has it
RECORD = f"demo/__init__.py,sha256={SHA256},3\ndemo-1.dist-info/INSTALLER,,\ndemo-1.dist-info/RECORD,,\n"


def package(site: Path, record: str | bytes | None = RECORD) -> None:
    """A package as uv leaves it behind, with another record, or without one."""
    info = site / "demo-1.dist-info"
    info.mkdir(parents=True)
    (site / "demo").mkdir()
    (site / "demo" / "__init__.py").write_bytes(b"abc")
    (info / "INSTALLER").write_text("uv")
    if record is not None:
        (info / "RECORD").write_bytes(record.encode() if isinstance(record, str) else record)


def told(site: Path, prefix: Path | None = None) -> list[tuple[str, str, str]]:
    files = intact.package_files(site, prefix or site)
    wrong = intact.damaged(files) or intact.changed(files, lambda *_: None)
    return [(damage.file.owner, damage.file.name, damage.reason) for damage in wrong]


def test_a_package_as_it_was_installed_is_whole(tmp_path: Path) -> None:
    package(tmp_path, f"{RECORD}\n")
    assert told(tmp_path) == []


def test_what_another_program_installed_is_not_looked_at(tmp_path: Path) -> None:
    package(tmp_path, "demo/gone.py,,\n")
    (tmp_path / "demo-1.dist-info" / "INSTALLER").write_text("pip")
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "reason"), [(None, "is gone"), (b"abcd", "has 4 bytes, not 3"), (b"abd", "has other bytes than were")]
)
def test_a_file_that_is_not_what_was_installed_is_named(tmp_path: Path, data: bytes | None, reason: str) -> None:
    package(tmp_path)
    file = tmp_path / "demo" / "__init__.py"
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    ((owner, name, why),) = told(tmp_path)
    assert (owner, name) == ("demo", "demo/__init__.py")
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "is gone"),
        (f'"{RECORD}', "is not as it was written"),  # all that follows would be one name
        (RECORD.replace(SHA256, "\u00e9"), "is not as it was written"),
        (RECORD.replace(",3\n", ",many\n"), "is not as it was written"),
        (RECORD.replace(",3\n", "\n"), "is not as it was written"),
        ("x" * 200_000, "is not as it was written"),
    ],
)
def test_a_record_that_is_gone_or_mangled_is_damage_itself(tmp_path: Path, record: str | None, reason: str) -> None:
    package(tmp_path, record)
    assert ("demo", "demo-1.dist-info/RECORD", reason) in told(tmp_path)


@pytest.mark.parametrize("bytes_", [b"\xff\xfe", b"\x00"])
def test_a_record_that_is_not_text_is_damage_too(tmp_path: Path, bytes_: bytes) -> None:
    package(tmp_path, bytes_ + RECORD.encode())
    assert told(tmp_path)


def conda_package(prefix: Path, name: str = "demo", data: bytes = b"abc", **more: Any) -> Path:
    """A conda package of one file, as its installers leave it behind; `more` is for the file's row."""
    row = {"_path": "lib/demo.so", "path_type": "hardlink", "size_in_bytes": len(data)}
    row |= {"sha256": hashlib.sha256(data).hexdigest(), **more}
    for directory in ("lib", "conda-meta"):
        (prefix / directory).mkdir(parents=True, exist_ok=True)
    (prefix / "lib" / "demo.so").write_bytes(data)
    record = prefix / "conda-meta" / f"{name}-1-0.json"
    record.write_text(json.dumps({"name": name, "paths_data": {"paths": [row]}}))
    return record


def test_a_conda_package_as_it_was_installed_is_whole(tmp_path: Path) -> None:
    conda_package(tmp_path)
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "reason"), [(None, "is gone"), (b"abcd", "has 4 bytes, not 3"), (b"abd", "has other bytes than were")]
)
def test_a_file_of_a_conda_package_that_is_not_what_was_installed_is_named(
    tmp_path: Path, data: bytes | None, reason: str
) -> None:
    conda_package(tmp_path)
    file = tmp_path / "lib" / "demo.so"
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    ((owner, name, why),) = told(tmp_path)
    assert (owner, name) == ("demo", "lib/demo.so")
    assert why.startswith(reason)


def test_a_file_that_the_prefix_was_written_into_is_known_by_its_later_hash(tmp_path: Path) -> None:
    published: dict[str, Any] = {"sha256": "0" * 64, "size_in_bytes": 255, "prefix_placeholder": "/placeholder"}
    conda_package(tmp_path, sha256_in_prefix=hashlib.sha256(b"abc").hexdigest(), **published)
    assert told(tmp_path) == []
    (tmp_path / "lib" / "demo.so").write_bytes(b"abd")
    assert told(tmp_path) == [("demo", "lib/demo.so", "has other bytes than were installed")]


def test_of_a_file_that_two_conda_packages_have_only_its_being_there_is_known(tmp_path: Path) -> None:
    conda_package(tmp_path)
    conda_package(tmp_path, "later", b"later")
    assert told(tmp_path) == []
    (tmp_path / "lib" / "demo.so").unlink()
    assert {reason for _, _, reason in told(tmp_path)} == {"is gone"}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{}",
        "[]",
        "[" * 100_000,
        '{"paths_data": {"paths": [7]}}',
        '{"paths_data": {"paths": [{"path_type": "hardlink", "_path": "a\\u0000b"}]}}',
        '{"paths_data": {"paths": [{"path_type": "hardlink", "_path": "\\ud800"}]}}',
        '{"paths_data": {"paths": [{"path_type": "hardlink", "_path": "a", "size_in_bytes": "many"}]}}',
    ],
)
def test_a_record_of_conda_that_is_mangled_is_damage_itself(tmp_path: Path, record: str) -> None:
    conda_package(tmp_path).write_text(record)
    assert told(tmp_path) == [("demo", "conda-meta/demo-1-0.json", "is not as it was written")]
