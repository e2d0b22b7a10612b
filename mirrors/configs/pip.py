"""pip.conf: its `index-url`, wherever it stands. See the package's docstring."""

from __future__ import annotations

import configparser
from typing import Any

from mirrors.configs.text import bad, reads_as, unusual

_KEY = "index-url"
_Settings = dict[str, dict[str, str]]


def with_index(text: str, index_url: str, name: str) -> str:
    """`[global] index-url`, and that of every other section that has one: pip lets a command's own section win.

    Raises:
        BadConfig: pip would not be able to read the text.
    """
    expected = _loaded(text, name)
    for values in (expected.setdefault("global", {}), *expected.values()):
        for key in [key for key in values if _is_ours(key)]:
            values[key] = index_url
    if not any(map(_is_ours, expected["global"])):
        expected["global"][_KEY] = index_url
    after = _spliced(text, index_url, name)
    if not reads_as(expected, after, _loaded):
        raise unusual(name)
    return after


def _loaded(text: str, name: str) -> _Settings:
    """What pip makes of it: it reads its files with this very parser."""
    parser = configparser.RawConfigParser()
    hint = "a pip.conf has [sections] with lines of the form key = value"
    try:
        parser.read_string(text)
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or next((line for line, _ in getattr(error, "errors", ())), None)
        raise bad(name, line, "not what pip can read", hint) from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _spliced(text: str, index_url: str, name: str) -> str:
    from configupdater import ConfigUpdater

    updater = ConfigUpdater()
    try:
        updater.read_string(text)
    except configparser.Error as error:
        raise unusual(name) from error
    if not updater.has_section("global"):
        updater.add_section("global")
    options = [option for section in updater.iter_sections() for option in section.iter_options()]
    for option in options:
        if _is_ours(option.key):
            _set_option(option, index_url)
    section = updater["global"]
    keys = list(section)
    if keys and not any(map(_is_ours, keys)):
        section[keys[-1]].add_after.option(_KEY, index_url)
    elif not keys:
        section[_KEY] = index_url
    return str(updater)


def _is_ours(key: str) -> bool:
    return key.replace("_", "-") == _KEY  # pip reads both


def _set_option(option: Any, value: str) -> None:
    if option.value == value:
        return
    comments = [line.strip() for line in option.lines[1:] if line.strip().startswith(("#", ";"))]
    option.value = value  # takes the lines of the old value away, and with them the comments in between
    place = option.add_after
    for comment in comments:
        place = place.comment(comment, comment_prefix=comment[0])
