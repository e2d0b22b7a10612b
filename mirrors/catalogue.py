"""The mirrors that are known: the built-in rows, the user's own, and any URL.

A user's own mirrors come from a YAML file. Its rows add to the built-in ones, or replace one of the same kind and id:

    mirrors:
      - id: corp             # any word but "auto"
        kind: pypi
        url: https://index.corp.example/simple
        name: our own        # optional, like region, layout, upstream, notes,
        max_rate: 5000000    # bytes/s, and requests_per_minute: what its operator asks for

Knows nothing of where that file lies, or of whether a mirror is any good.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, urlsplit

import yaml

from mirrors.errors import BadMirror, UnknownMirror
from mirrors.rows import ROWS, Kind, Layout, Mirror
from mirrors.urls import is_loopback, redact, shown

__all__ = ["KINDS", "Kind", "Mirror", "adhoc", "channel_base", "find", "hub_file", "mirrors", "with_variant"]

KINDS: tuple[Kind, ...] = get_args(Kind)
_LAYOUTS: Mapping[Kind, tuple[Layout, ...]] = {  # the first is the usual one
    "pypi": ("simple", "flat"),
    "pytorch": ("simple", "flat"),
    "conda": ("channels", "anaconda"),
    "docker": ("registry",),
    "hub": ("huggingface", "modelscope"),
    "apt": ("files",),
    "python": ("files",),
}
_REQUIRED = ("id", "kind", "url")
_NUMBERS = ("max_rate", "requests_per_minute")
_OPTIONAL = ("name", "region", "layout", "upstream", "notes", *_NUMBERS)


def mirrors(kind: Kind, own: Path | None = None) -> tuple[Mirror, ...]:
    """All mirrors of a kind: upstream first, then the built-in rows, then the user's own.

    Args:
        kind: what they serve.
        own: the user's own catalogue; one that does not exist counts as empty.

    Raises:
        BadMirror: the user's catalogue cannot be used; says where and why.
    """
    built_in = (_pypi(), *ROWS)
    rows = {(row.kind, row.id): row for row in (*built_in, *(_read(own) if own is not None else ()))}
    return tuple(row for row in rows.values() if row.kind == kind)


def find(id_or_url: str, kind: Kind = "pypi", own: Path | None = None) -> Mirror:
    """The mirror of that id ("upstream" for where the bytes are published) or URL.

    Raises:
        UnknownMirror: there is no such id.
        BadMirror: the URL cannot be used.
    """
    known = mirrors(kind, own)
    if "://" in id_or_url:
        url = id_or_url.rstrip("/")
        _check_url(url)
        return next((row for row in known if row.url == url), None) or adhoc(url, shown(url).partition("://")[2], kind)
    wanted = id_or_url.strip().lower()
    found = next((row for row in known if row.id == wanted), None)
    if found is None:
        ids = ", ".join(row.id for row in known)
        raise UnknownMirror(
            f"there is no {kind} mirror called {redact(id_or_url)!r}", f"known: {ids}; or give a URL, with its https://"
        )
    return found


def adhoc(url: str, name: str = "configured", kind: Kind = "pypi", layout: Layout | None = None) -> Mirror:
    """A mirror that stands in no catalogue, such as the index that the user's own pip settings name.

    Raises:
        BadMirror: neither https nor a local directory nor plain http on this very machine.
    """
    _check_url(url)
    return Mirror(name, name, kind, url.rstrip("/"), "", layout or _LAYOUTS[kind][0])


def with_variant(mirror: Mirror, variant: str) -> Mirror:
    """The same mirror for one torch build (cpu, cu130) or one distribution (debian, ubuntu)."""
    return replace(mirror, url=mirror.url.replace("{variant}", variant))


def channel_base(mirror: Mirror) -> str:
    """The URL below which a conda mirror has its community channels: BASE/conda-forge."""
    return f"{mirror.url}/cloud" if mirror.layout == "anaconda" else mirror.url


def hub_file(mirror: Mirror, repo: str, revision: str, path: str) -> str:
    """Where a model hub serves a repository's file.

    ModelScope numbers revisions in its own way, so its newest is asked for: the sha256 decides whether it is the one.
    """
    if mirror.layout == "modelscope":
        return f"{mirror.url}/api/v1/models/{quote(repo)}/repo?Revision=master&FilePath={quote(path, safe='')}"
    return f"{mirror.url}/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(path)}"


@functools.cache
def _pypi() -> Mirror:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # half a second, so only when it is needed

    return Mirror("upstream", "PyPI", "pypi", PYPI_SIMPLE_ENDPOINT.rstrip("/"), "global", "simple", upstream=True)


def _read(own: Path) -> tuple[Mirror, ...]:
    try:
        text = own.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise BadMirror(f"{own} cannot be read: {error}", "mend the file, or move it away") from error
    try:
        content = yaml.load(text, _LineLoader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        line = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {line.line + 1}" if line else ""
        raise BadMirror(f"{own}{where} is not YAML: {getattr(error, 'problem', error)}", "mend the line") from error
    hint = "write `mirrors:` and then one `- id: …` a mirror"
    if isinstance(content, dict):
        unknown = next((key for key in content if key not in ("mirrors", _LINE)), None)
        if unknown is not None:
            raise BadMirror(f"{own}: {unknown!r} means nothing here: the only key is `mirrors`", hint)
    rows = content.get("mirrors") if isinstance(content, dict) else content
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise BadMirror(f"{own}: `mirrors` must be a list of rows", hint)
    return tuple(_row(row, own) for row in rows)


def _row(row: Any, own: Path) -> Mirror:
    if not isinstance(row, dict):
        raise BadMirror(f"{own}: {row!r} is not a row", f"a row has {', '.join(_REQUIRED)}")
    where = f"{own}, line {row.pop(_LINE)}"
    problem = _problem(row)
    if problem:
        optional = ", ".join(_OPTIONAL)
        raise BadMirror(f"{where}: {problem}", f"a row has {', '.join(_REQUIRED)}, and may have {optional}")
    try:
        _check_url(row["url"])
    except BadMirror as error:
        raise BadMirror(f"{where}: {error}", error.hint) from None
    return Mirror(
        id=row["id"].lower(),
        name=row.get("name") or row["id"],
        kind=row["kind"],
        url=row["url"].rstrip("/"),
        region=row.get("region", ""),
        layout=row.get("layout", _LAYOUTS[row["kind"]][0]),
        upstream=row.get("upstream", False),
        notes=row.get("notes", ""),
        max_rate=row.get("max_rate"),
        requests_per_minute=row.get("requests_per_minute"),
    )


def _problem(row: dict[str, Any]) -> str:
    """What is wrong with a row of the user's, as a clause; empty if nothing is."""
    for key in _REQUIRED:
        if not row.get(key):
            return f"the row has no {key}"
    for key, value in row.items():
        if key not in (*_REQUIRED, *_OPTIONAL):
            return f"{key!r} means nothing here"
        if (problem := _not_of_its_type(key, value)) is not None:
            return f"{key} must be {problem}, not {value!r}"
    if row["kind"] not in KINDS:
        return f"kind {row['kind']!r} is none of {', '.join(KINDS)}"
    if row.get("layout") and row["layout"] not in _LAYOUTS[row["kind"]]:
        return f"layout {row['layout']!r} is none of {', '.join(_LAYOUTS[row['kind']])}"
    return ""


def _not_of_its_type(key: str, value: object) -> str | None:
    """What a value of the user's should have been, if it is something else."""
    if key in _NUMBERS:
        return None if isinstance(value, int) and value > 0 and value is not True else "a number above 0"
    if key == "upstream":
        return None if isinstance(value, bool) else "true or false"
    if not isinstance(value, str):
        return "text (put it in quotes)"
    unfit = key == "id" and (value.lower() == "auto" or re.search(r"[\s/]", value))
    return "one word without slashes, and another one than auto" if unfit else None


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        local = is_loopback(url)
    except ValueError:
        parts, local = urlsplit(""), False
    if parts.scheme == "file" and parts.path and parts.netloc in ("", "localhost"):
        return
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local)):
        return
    if parts.scheme == "http":
        raise BadMirror(f"{shown(url)} is plain http, which anyone on the way can change", "use its https address")
    raise BadMirror(f"{shown(url)!r} is no URL of a mirror", "give https://HOST/PATH, or file:///DIRECTORY")


_LINE = "\0line"


class _LineLoader(yaml.SafeLoader):
    """Notes in each mapping the line where it begins, so that an error can name it."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        mapping[_LINE] = node.start_mark.line + 1
        return mapping
