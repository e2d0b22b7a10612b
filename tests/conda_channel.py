"""Conda packages and channels, made on the spot: tiny ones, and real ones out of what is installed here.

python, torch = python_package(directory), distribution_package(directory, "torch")
publish(mirror, [python, torch])                    # mirror.base has a channel conda-forge now
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mirrors.digest import sha256_of
from tests.mirrors.loopback import LoopbackMirror

SUBDIR = f"linux-{'64' if os.uname().machine == 'x86_64' else os.uname().machine}"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_LEFT_OUT = {"__pycache__", "site-packages", "test", "tests", "idlelib", "ensurepip", "turtledemo"}


@dataclass(frozen=True)
class Package:
    """A package file on the disk, and what an index says of it."""

    path: Path
    subdir: str
    record: Mapping[str, Any] = field(repr=False)

    @property
    def filename(self) -> str:
        return self.path.name

    @property
    def sha256(self) -> str:
        return str(self.record["sha256"])


def package(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, bytes | Path] | None = None,
    depends: Sequence[str] = (),
    build: str = "0",
    subdir: str = "noarch",
    suffix: str = ".conda",
    links: Mapping[str, str] | None = None,
    **more: Any,
) -> Package:
    """A package with these files in it, below an environment's root; `more` is for its index.json."""
    contents: Mapping[str, bytes | Path] = (
        {f"share/{name}.txt": f"{name} {version}\n".encode()} if files is None else files
    )
    index = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": 0,
        "depends": list(depends),
        "subdir": subdir,
        "license": "MIT",
        "timestamp": 1_700_000_000_000,
        **({"noarch": "generic"} if subdir == "noarch" else {}),
        **more,
    }
    info = _info(index, contents, links or {})
    place = directory / subdir
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}-{version}-{build}{suffix}"
    (_write_conda if suffix == ".conda" else _write_bz2)(path, info, contents, links or {})
    digests = {"sha256": sha256_of(path), "md5": hashlib.md5(path.read_bytes()).hexdigest()}
    return Package(path, subdir, {**index, **digests, "size": path.stat().st_size})


def python_package(directory: Path) -> Package:
    """The interpreter that runs this, with its standard library."""
    root, library = Path(sys.base_prefix), f"lib/python{PYTHON}"
    files: dict[str, bytes | Path] = {f"bin/python{PYTHON}": Path(os.path.realpath(root / "bin" / f"python{PYTHON}"))}
    for path in sorted((root / library).rglob("*")):
        below = path.relative_to(root)
        if path.is_file() and not _LEFT_OUT & set(below.parts) and not below.parts[2].startswith("config-"):
            files[below.as_posix()] = path
    for path in (root / "lib").glob(f"libpython{PYTHON}*.so*"):
        files[f"lib/{path.name}"] = path.resolve()
    files[f"{library}/site-packages/README.txt"] = b"packages\n"
    links = {"bin/python": f"python{PYTHON}", "bin/python3": f"python{PYTHON}"}
    version = ".".join(map(str, sys.version_info[:3]))
    return package(directory, "python", version, files=files, build="0_cpython", subdir=SUBDIR, links=links)


def distribution_package(directory: Path, name: str, conda_name: str | None = None) -> Package:
    """What is installed here under that name, as a conda package."""
    found = distribution(name)
    root = Path(sysconfig.get_path("purelib")).resolve()
    files: dict[str, bytes | Path] = {}
    for entry in found.files or ():
        path = Path(os.path.normpath(Path(str(found.locate_file(entry)))))
        if path.is_file() and path.is_relative_to(root) and "__pycache__" not in entry.parts:
            below = PurePosixPath(path.relative_to(root).as_posix())
            # conda packages say so, since their files are not what the RECORD of the wheel says (prefixes, scripts)
            files[f"lib/python{PYTHON}/site-packages/{below}"] = b"conda\n" if path.name == "INSTALLER" else path
    depends = [f"python {PYTHON}.*", *(conda_names(needed) for needed in requirements(name))]
    version = found.version.partition("+")[0]
    known = conda_names(canonicalize_name(name)) if conda_name is None else conda_name
    return package(directory, known, version, files=files, depends=depends, build="py_0", subdir=SUBDIR)


def requirements(name: str) -> list[str]:
    """What a distribution that is installed here needs here, without extras."""
    needed = (Requirement(line) for line in distribution(name).requires or ())
    return sorted({canonicalize_name(it.name) for it in needed if not it.marker or it.marker.evaluate({"extra": ""})})


def closure(names: Iterable[str]) -> list[str]:
    """Those distributions and all that they need."""
    found, waiting = set[str](), [*names]
    while waiting:
        name = str(canonicalize_name(waiting.pop()))
        if name not in found:
            found.add(name)
            waiting += requirements(name)
    return sorted(found)


def conda_names(name: str) -> str:
    """What conda-forge calls a distribution."""
    return {"torch": "pytorch", "prometheus-client": "prometheus_client"}.get(name, name)


def publish(
    mirror: LoopbackMirror,
    packages: Iterable[Package],
    channel: str = "conda-forge",
    *,
    index: Iterable[Package] | None = None,
    without: Sequence[str] = (),
) -> None:
    """Let a mirror have a channel with these packages.

    Args:
        mirror: whose.
        packages: the files.
        channel: its name.
        index: what its index lists; by default the truth.
        without: what the index does not say of them, such as sha256.
    """
    files = [*packages]
    listed = files if index is None else [*index]
    for subdir in (SUBDIR, "noarch"):
        document: dict[str, Any] = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}}
        for it in (it for it in listed if it.subdir == subdir):
            row = {key: value for key, value in it.record.items() if key not in without}
            document["packages.conda" if it.filename.endswith(".conda") else "packages"][it.filename] = row
        mirror.serve(f"/{channel}/{subdir}/repodata.json", json.dumps({**document, "repodata_version": 1}).encode())
    for it in files:
        mirror.serve(f"/{channel}/{it.subdir}/{it.filename}", it.path)


def _info(
    index: Mapping[str, Any], contents: Mapping[str, bytes | Path], links: Mapping[str, str]
) -> dict[str, bytes | Path]:
    paths = [
        {
            "_path": name,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else sha256_of(data),
            "size_in_bytes": len(data) if isinstance(data, bytes) else data.stat().st_size,
        }
        for name, data in contents.items()
    ]
    paths += [{"_path": name, "path_type": "softlink", "sha256": "0" * 64, "size_in_bytes": 0} for name in links]
    return {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths_version": 1, "paths": paths}).encode(),
        "info/files": "".join(f"{name}\n" for name in (*contents, *links)).encode(),
        "info/about.json": b"{}",
    }


def _write_bz2(
    path: Path, info: Mapping[str, bytes | Path], contents: Mapping[str, bytes | Path], links: Mapping[str, str]
) -> None:
    with tarfile.open(path, "w:bz2") as archive:
        _fill(archive, {**info, **contents}, links)


def _write_conda(
    path: Path, info: Mapping[str, bytes | Path], contents: Mapping[str, bytes | Path], links: Mapping[str, str]
) -> None:
    stem = path.name.removesuffix(".conda")
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        for part, files, its_links in (("pkg", contents, links), ("info", info, {})):
            with (
                outer.open(zipfile.ZipInfo(f"{part}-{stem}.tar.zst"), "w", force_zip64=True) as entry,
                _StoredZstd(entry) as zstd,
                tarfile.open(fileobj=zstd, mode="w|") as archive,
            ):
                _fill(archive, files, its_links)


def _fill(archive: tarfile.TarFile, files: Mapping[str, bytes | Path], links: Mapping[str, str]) -> None:
    for name, data in files.items():
        entry = tarfile.TarInfo(name)
        if isinstance(data, bytes):
            entry.size, entry.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))
            continue
        facts = data.stat()
        entry.size, entry.mode = facts.st_size, stat.S_IMODE(facts.st_mode)
        with data.open("rb") as file:
            archive.addfile(entry, file)
    for name, target in links.items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)


class _StoredZstd(io.RawIOBase):
    """A Zstandard frame of uncompressed blocks, which takes no library (RFC 8878, 3.1.1)."""

    def __init__(self, file: Any) -> None:
        self._file = file
        file.write(b"\x28\xb5\x2f\xfd\x00\x50")  # magic number, neither size nor checksum, a window of 1 MiB

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        for start in range(0, len(view), 1 << 17):
            block = view[start : start + (1 << 17)]
            self._file.write((len(block) << 3).to_bytes(3, "little"))
            self._file.write(block)
        return len(view)

    def close(self) -> None:
        if not self.closed:
            self._file.write(b"\x01\x00\x00")  # the last block, empty
        super().close()
