"""This tool itself and what it needs, as wheels: an air-gapped machine has to get it from somewhere too.

Our own wheel is put together from the files that are installed, or built where we run from a checkout. The others are
fetched by pip, from where the user's own settings say, for this machine and this Python.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

import uv
from packaging.utils import canonicalize_name

from bootstrap import spawn
from bootstrap.console import Console
from bootstrap.errors import SetupError
from mirrors.urls import redact

_NAME = "i2v-setup"
_LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
_HINT = "leave it out with --no-tool, and carry the tool over in another way"


@contextmanager
def wheels(console: Console, *, wanted: bool) -> Iterator[list[Path]]:
    """The wheels, in a directory that goes with the block; none if they are not wanted.

    Raises:
        SetupError: they cannot be had.
    """
    with TemporaryDirectory(prefix="i2v-setup-") as name:
        directory = Path(name)
        if wanted:
            with console.working("fetch the tool's own packages") as task:
                task.say("our own wheel")
                own = _own(directory)
                task.say("what it needs")
                _download(own, directory)
        yield sorted(directory.glob("*.whl"))


def _own(directory: Path) -> Path:
    """Our own wheel."""
    found = distribution(_NAME)
    root = _checkout()
    if root is None:
        return _put_together(found, directory)
    done = spawn.run([str(uv.find_uv_bin()), "build", "--wheel", "--out-dir", str(directory), str(root)])
    if done.code != 0:
        raise SetupError(f"the tool's own wheel could not be built: {_last(done.output)}", _HINT)
    (directory / ".gitignore").unlink(missing_ok=True)
    return next(directory.glob("*.whl"))


def _checkout() -> Path | None:
    """Where the project lies, if we run from a checkout."""
    root = Path(__file__).parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def _put_together(found: Distribution, directory: Path) -> Path:
    """A wheel of what is installed: the files that its record names, but for what the installer wrote."""
    name = f"{canonicalize_name(found.name).replace('-', '_')}-{found.version}"
    path, record = directory / f"{name}-py3-none-any.whl", f"{name}.dist-info/RECORD"
    rows = []
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for file in found.files or ():
            inside = ".." not in file.parts and "__pycache__" not in file.parts and file.name not in _LEFT_OUT
            if inside and Path(file.locate()).is_file():
                archive.write(file.locate(), file.as_posix())
                digest = f"{file.hash.mode}={file.hash.value}" if file.hash else ""
                rows.append(f"{file.as_posix()},{digest},{file.size or ''}")
        archive.writestr(record, "\n".join([*rows, f"{record},,"]) + "\n")
    return path


def _download(own: Path, directory: Path) -> None:
    """All that our own wheel requires."""
    done = spawn.run([*_pip(), "download", "--only-binary", ":all:", "--dest", str(directory), str(own)])
    if done.code != 0:
        raise SetupError(f"the packages that the tool needs could not be fetched: {_last(done.output)}", _HINT)


def _pip() -> list[str]:
    """pip, which is not in every environment that this tool lives in."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    return [str(uv.find_uv_bin()), "run", "--no-project", "--python", sys.executable, "--with", "pip", "pip"]


def _last(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return redact(lines[-1]) if lines else "it gave no reason"
