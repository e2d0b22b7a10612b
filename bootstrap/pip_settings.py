"""The pip settings in force for a user: index, extra indexes, find-links, certificate, proxy.

uv does not read pip's configuration, so whoever is behind a corporate proxy or index has told it to pip and to
nobody else. We read it and hand it on. `trusted-host` is reported and never handed on: it switches verification off.
Order and places are pip's own (https://pip.pypa.io/en/stable/topics/configuration/).
"""

from __future__ import annotations

import configparser
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_SECTIONS = ("global", "install")  # a later one wins
_LISTS = ("extra-index-url", "find-links", "trusted-host")
_KEYS = ("index-url", *_LISTS, "cert", "proxy", "no-index")


@dataclass(frozen=True)
class PipSettings:
    """What pip would use. URLs may carry credentials: show them by way of `mirrors.urls.redact` only."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    sources: tuple[str, ...] = ()

    def find_link_directories(self) -> Iterator[Path]:
        """The find-links that are local directories, or wheels in them."""
        for link in self.find_links:
            path = Path(url2pathname(urlsplit(link).path) if link.startswith("file:") else link).expanduser()
            if path.is_dir():
                yield path
            elif path.suffix == ".whl" and path.is_file():
                yield path.parent  # what else is there does no harm: the lock's hashes decide


def read(environ: Mapping[str, str] = os.environ) -> PipSettings:
    """The settings of the user who runs us: system, user, this prefix, PIP_CONFIG_FILE, PIP_*; a later one wins."""
    found = [(str(path), sections) for path in _config_files(environ) if (sections := _from_file(path))]
    sources = [path for path, _ in found]
    values: dict[str, str] = {}
    for section in _SECTIONS:  # all files' [global], then all files' [install]
        for _, sections in found:
            values.update(sections.get(section, {}))
    from_environment = _from_environment(environ)
    if from_environment:
        sources.append("environment")
    values.update(from_environment)
    listed = {key: tuple(dict.fromkeys(_split(values.get(key, "")))) for key in _LISTS}
    return PipSettings(
        index_url=values.get("index-url") or None,
        extra_index_urls=listed["extra-index-url"],
        find_links=listed["find-links"],
        cert=values.get("cert") or None,
        proxy=values.get("proxy") or None,
        trusted_hosts=listed["trusted-host"],
        no_index=values.get("no-index", "").lower() in {"1", "true", "yes", "on"},
        sources=tuple(sources),
    )


def _config_files(environ: Mapping[str, str]) -> Iterator[Path]:
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    home = Path(environ.get("HOME", "~")).expanduser()
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    for directory in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep):
        yield Path(directory) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    if not (chosen and Path(chosen).exists()):  # a PIP_CONFIG_FILE that is there stands in for the user's files
        yield home / ".pip" / "pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if chosen:
        yield Path(chosen)


def _from_file(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return {}  # pip itself says what is wrong with it
    sections = {}
    for section in filter(parser.has_section, _SECTIONS):
        values = {key.replace("_", "-"): value for key, value in parser.items(section)}
        sections[section] = {key: value for key, value in values.items() if key in _KEYS}
    return {section: values for section, values in sections.items() if values}


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = {key: "PIP_" + key.upper().replace("-", "_") for key in _KEYS}
    return {key: environ[name] for key, name in names.items() if environ.get(name)}


def _split(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()
