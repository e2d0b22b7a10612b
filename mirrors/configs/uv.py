"""uv.toml: its default index, and indexes by name. See the package's docstring."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mirrors.configs.text import bad, reads_as, unusual, with_newline

_TABLE = r"^[ \t]*\[\[?[\w .\"'-]+\]?\][ \t]*(#.*)?$"  # a line that begins a TOML table
_INDEX = r"[ \t]*\[\[[ \t]*[\"']?index[\"']?[ \t]*\]\]"
_PIP = r"[ \t]*\[[ \t]*[\"']?pip[\"']?[ \t]*\]"
_NAME = r"^([ \t]*)([\"']?name[\"']?[ \t]*=)"

_Table = dict[str, Any]


def with_default_index(text: str, index_url: str, name: str) -> str:
    """The default index, in each of the places where one is set: `[[index]]`, `index-url`, and those of `[pip]`.

    Raises:
        BadConfig: the text is not TOML, or its indexes are not what uv expects.
    """
    expected = _loaded(text, name)
    indexes = _indexes(expected, name)
    default = next((place for place, index in enumerate(indexes) if index.get("default") is True), None)
    after = text
    if default is not None:
        expected["index"][default] = _moved(indexes[default], index_url)
        after = _in_index(after, name, default, indexes[default], expected["index"][default])
    elif "index-url" in expected:  # the older way to say the same
        expected["index-url"] = index_url
        after = _in_table(after, name, 0, lambda part: part.update({"index-url": index_url}))
    else:
        after = _with_one_more(after, name, expected, {"url": index_url, "default": True})
    pip = expected.get("pip")
    if isinstance(pip, dict) and "index-url" in pip:
        pip["index-url"] = index_url
        place = next(iter(_starting(_PIP, after)), 0)
        after = _in_table(after, name, place, lambda part: part["pip"].update({"index-url": index_url}))
    return _checked(after, expected, name)


def with_named_index(text: str, index: str, index_url: str, flat: bool, name: str) -> str:
    """An index of that name; a new one is asked for nothing but what is asked of it by name.

    Raises:
        BadConfig: the text is not TOML, or its indexes are not what uv expects.
    """
    expected = _loaded(text, name)
    indexes = _indexes(expected, name)
    place = next((place for place, other in enumerate(indexes) if other.get("name") == index), None)
    format_ = {"format": "flat"} if flat else {}
    if place is None:
        after = _with_one_more(text, name, expected, {"name": index, "url": index_url, "explicit": True, **format_})
    else:
        usual = {"format": "simple"} if "format" in indexes[place] else {}
        expected["index"][place] = {**indexes[place], "url": index_url, **(format_ or usual)}
        after = _in_index(text, name, place, indexes[place], expected["index"][place])
    return _checked(after, expected, name)


def _moved(index: _Table, url: str) -> _Table:
    """An index at another address. Its name goes where the address changes.

    uv sends the credentials that are set for a name (UV_INDEX_<NAME>_PASSWORD) to whatever address the name has, and
    projects that pin a package to that name mean the old address.
    """
    moved = {**index, "url": url}
    if index.get("url") != url:
        moved.pop("name", None)
    if "format" in index:
        moved["format"] = "simple"
    return moved


def _in_index(text: str, name: str, place: int, old: _Table, new: _Table) -> str:
    """Change one of the indexes: a table of its own, or an element of `index = [...]`."""

    def change(index: Any) -> None:
        for key in old.keys() - new.keys():
            index.pop(key, None)
        index.update({key: value for key, value in new.items() if old.get(key) != value})

    starts = _starting(_INDEX, text)
    if place >= len(starts):
        return _in_table(text, name, 0, lambda part: change(part["index"][place]))
    start, end = starts[place], _end(text, starts[place])
    table = text[start:end]
    if "name" not in new:  # its line stays as a comment, with the comment that it has
        table = re.sub(_NAME, r"\1# \2", table, count=1, flags=re.MULTILINE)
    return _in_table(text[:start] + table + text[end:], name, start, lambda part: change(part["index"][0]))


def _with_one_more(text: str, name: str, expected: _Table, index: _Table) -> str:
    """At the end, where a table disturbs nothing: uv asks its default index last, wherever it stands."""
    indexes = expected.setdefault("index", [])
    in_brackets = bool(indexes) and not _starting(_INDEX, text)
    indexes.append(index)
    if in_brackets:  # index = [{...}]
        return _in_table(text, name, 0, lambda part: part["index"].append(index))
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in index.items()]
    return f"{with_newline(text)}[[index]]\n{''.join(lines)}"


def _checked(text: str, expected: _Table, name: str) -> str:
    if not reads_as(expected, text, _loaded):  # a table header inside a string
        raise unusual(name)
    return text


def _tables(text: str) -> list[int]:
    """Where each table begins; the first is what stands before any header."""
    return sorted({0, *(match.start() for match in re.finditer(_TABLE, text, re.MULTILINE))})


def _starting(header: str, text: str) -> list[int]:
    return [start for start in _tables(text) if re.match(header, text[start:])]


def _end(text: str, start: int) -> int:
    return next((other for other in _tables(text) if other > start), len(text))


def _in_table(text: str, name: str, start: int, change: Callable[[Any], None]) -> str:
    """Change one table by way of tomlkit, which would put tables in another order if it had the whole text."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    end = _end(text, start)
    try:
        part = tomlkit.parse(text[start:end])
        change(part)
    except (TOMLKitError, LookupError) as error:
        raise unusual(name) from error
    return text[:start] + tomlkit.dumps(part) + text[end:]


def _indexes(loaded: _Table, name: str) -> list[_Table]:
    indexes = loaded.get("index", [])
    if not isinstance(indexes, list) or not all(isinstance(index, dict) for index in indexes):
        raise bad(name, None, "`index` is not a list of tables", "uv expects [[index]] tables")
    return list(indexes)


def _loaded(text: str, name: str) -> _Table:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        reason = str(error)
        if "\0" not in text and repr("\0") in reason:  # tomlkit's mark of the end of the text
            reason = "it ends in the middle of a value"
        raise bad(name, getattr(error, "line", None), f"not TOML: {reason}") from error
