"""What an index says of its wheels: pages as JSON (PEP 691) for clients that take it, else HTML (PEP 503); metadata.

Addresses are relative, so a page knows nothing of the host and port that it is served from.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote
from zipfile import BadZipFile, ZipFile

from mirrors.resolve import Wheel

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html; charset=utf-8"
_JSON_ASKED = (JSON, "application/vnd.pypi.simple.latest+json")


def type_for(accept: str) -> str:
    """Which of the two types a client is given that sent this Accept header."""
    return JSON if any(type_ in accept for type_ in _JSON_ASKED) else HTML


def root(projects: Sequence[str], type_: str) -> bytes:
    """The page at /simple/: every project."""
    if type_ == JSON:
        return _json({"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in projects]})
    return _html((f"{name}/", name) for name in projects)


def project(name: str, wheels: Sequence[Wheel], type_: str) -> bytes:
    """The page at /simple/NAME/: its wheels, which lie in /files/, with their sha256 and, where known, their size."""
    if type_ == HTML:
        return _html((f"{_href(wheel)}#sha256={wheel.artifact.sha256}", wheel.filename) for wheel in wheels)
    files = [
        {"filename": wheel.filename, "url": _href(wheel), "hashes": {"sha256": wheel.artifact.sha256}}
        | ({"size": wheel.artifact.size} if wheel.artifact.size is not None else {})
        for wheel in wheels
    ]
    return _json({"meta": {"api-version": "1.0"}, "name": name, "files": files})


def metadata(wheel: Path) -> bytes | None:
    """A wheel's METADATA; None if it has none that can be read."""
    try:
        with ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return archive.read(name)
    except (BadZipFile, StopIteration):
        return None


def _href(wheel: Wheel) -> str:
    return f"../../files/{quote(wheel.filename)}"


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document).encode()


def _html(links: Iterable[tuple[str, str]]) -> bytes:
    anchors = "\n".join(f'<a href="{html.escape(href)}">{html.escape(text)}</a><br>' for href, text in links)
    return f"<!DOCTYPE html>\n<html><body>\n{anchors}\n</body></html>\n".encode()
