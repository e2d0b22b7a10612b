"""Writes a pylock.toml (PEP 751) from which an installer takes wheels as they are listed, and resolves nothing.

Every wheel has its sha256, which the installer checks itself. Pure text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tomlkit
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from mirrors.resolve import Wheel


def text(wheels: Iterable[Wheel], url: Callable[[str], str]) -> str:
    """The lock of wheels that lie in directories of this machine, or else are asked for at `url(filename)`.

    As their index PyPI is named, wherever their bytes come from: uv keeps wheels in its cache by index, name and
    version, so that in the next run it finds them there without a request, also those that it got elsewhere.
    """
    packages = [_package(wheel, url) for wheel in sorted(wheels, key=lambda wheel: wheel.project)]
    return tomlkit.dumps({"lock-version": "1.0", "created-by": "i2v-setup", "packages": packages})


def _package(wheel: Wheel, url: Callable[[str], str]) -> dict[str, Any]:
    file: dict[str, Any] = {"name": wheel.filename}
    package: dict[str, Any] = {"name": wheel.project, "version": wheel.version}
    if wheel.path is not None:
        file["path"] = str(wheel.path)
    else:
        package["index"] = PYPI_SIMPLE_ENDPOINT
        file["url"] = url(wheel.filename)
    if wheel.artifact.size is not None:
        file["size"] = wheel.artifact.size
    file["hashes"] = {"sha256": wheel.artifact.sha256}
    return {**package, "wheels": [file]}
