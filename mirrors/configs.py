"""Configuration texts of pip, uv, conda and mamba that name a mirror: the old text in, the new text out.

Only our keys change. Comments, order, other indexes, line endings, a byte order mark and a missing final newline stay
as they are, and the same edit twice changes nothing more. Verification is never switched off. Knows nothing of files:
`name` is only for messages.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from typing import Any

from mirrors.errors import BadConfig

CONDA_FORGE = "conda-forge"


def pip_conf(text: str, index_url: str, name: str = "pip.conf") -> str:
    """A pip.conf whose `[global] index-url` is this URL, and so is that of any other section that has one.

    Raises:
        BadConfig: pip would not be able to read the text.
    """
    return _edited(text, lambda plain: _pip(plain, index_url, name))


def uv_toml(text: str, index_url: str, name: str = "uv.toml") -> str:
    """A uv.toml whose default index is this URL. Other `[[index]]` tables, such as one for PyTorch, are left alone.

    Raises:
        BadConfig: the text is not TOML, or its indexes are not what uv expects.
    """
    return _edited(text, lambda plain: _uv(plain, index_url, name))


def condarc(text: str, channel_url: str, name: str = ".condarc") -> str:
    """A .condarc in which the channel conda-forge is in the list of channels, and comes from `channel_url`/conda-forge.

    Raises:
        BadConfig: the text is not YAML, or its keys are not what conda expects.
    """
    return _edited(text, lambda plain: _conda(plain, channel_url, name))


def mambarc(text: str, channel_url: str, name: str = ".mambarc") -> str:
    """A .mambarc that says the same: mamba knows conda's keys.

    Raises:
        BadConfig: the text is not YAML, or its keys are not what mamba expects.
    """
    return condarc(text, channel_url, name)


def _edited(text: str, edit: Callable[[str], str]) -> str:
    """Run an edit on the text with plain line endings, and give every line that it left alone its own ending back."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    old = text.removeprefix(mark).split("\n")
    plain = [line.removesuffix("\r") for line in old]
    carriage = "\r" if old[0].endswith("\r") else ""
    unfinished = bool(plain[-1])  # no line end after the last line: some editors of ours would append to that line
    edited = edit("\n".join(plain) + "\n" * unfinished)
    if unfinished:
        edited = edited.removesuffix("\n")
    new = edited.split("\n")
    result = [line + carriage for line in new[:-1]] + new[-1:]
    for same in difflib.SequenceMatcher(None, plain, new, autojunk=False).get_matching_blocks():
        for offset in range(same.size):
            if same.a + offset < len(old) - 1 and same.b + offset < len(new) - 1:
                result[same.b + offset] = old[same.a + offset]
    return mark + "\n".join(result)


def _bad(name: str, line: int | None, problem: str, hint: str = "mend the file, or move it away") -> BadConfig:
    return BadConfig(f"{name}{f', line {line}' if line else ''}: {problem}", hint)


def _unusual(name: str) -> BadConfig:
    return _bad(name, None, "its form is too unusual to be edited safely", "write it plainly, one key a line")


def _reads_as(expected: object, text: str, load: Callable[[str, str], object]) -> bool:
    """Whether the new text says what it should, to a parser that was not told how it was made."""
    try:
        return load(text, "") == expected
    except BadConfig:
        return False


# pip


def _pip(text: str, index_url: str, name: str) -> str:
    from configupdater import ConfigUpdater

    updater = ConfigUpdater()
    try:
        updater.read_string(text)
    except Exception as error:
        line = getattr(error, "lineno", None) or next((line for line, _ in getattr(error, "errors", ())), None)
        raise _bad(
            name, line, "not what pip can read", "a pip.conf has [sections] with lines of the form key = value"
        ) from error
    if not updater.has_section("global"):
        updater.add_section("global")
    options = [option for section in updater.iter_sections() for option in section.iter_options()]
    for option in options:
        if option.key.replace("_", "-") == "index-url":  # pip reads both
            _set_option(option, index_url)
    section = updater["global"]
    keys = [key.replace("_", "-") for key in section]
    if "index-url" not in keys and keys:
        section[list(section)[-1]].add_after.option("index-url", index_url)
    elif "index-url" not in keys:
        section["index-url"] = index_url
    return str(updater)


def _set_option(option: Any, value: str) -> None:
    if option.value == value:
        return
    comments = [line.strip() for line in option.lines[1:] if line.strip().startswith(("#", ";"))]
    option.value = value  # takes the lines of the old value away, and with them the comments in between
    place = option.add_after
    for comment in comments:
        place = place.comment(comment, comment_prefix=comment[0])


# uv


def _uv(text: str, index_url: str, name: str) -> str:
    before = _parsed(text, name)
    indexes = before.get("index", [])
    if not isinstance(indexes, list) or not all(isinstance(index, dict) for index in indexes):
        raise _bad(name, None, "`index` is not a list of tables", "uv expects [[index]] tables")
    default = next((place for place, index in enumerate(indexes) if index.get("default") is True), None)

    tables = [0, *(match.start() for match in re.finditer(_TABLE, text, re.MULTILINE)), len(text)]
    starts = [start for start in tables if re.match(r"\s*\[\[\s*[\"']?index[\"']?\s*\]\]", text[start:])]
    ours = {"url": index_url, "default": True}
    if default is not None:
        indexes[default]["url"] = index_url
        table, place = (starts[default], 0) if default < len(starts) else (0, default)
        after = _in_table(text, name, tables, table, lambda part: part["index"][place].update({"url": index_url}))
    elif "index-url" in before:  # the older way to say the same
        before["index-url"] = index_url
        after = _in_table(text, name, tables, 0, lambda part: part.update({"index-url": index_url}))
    elif indexes and not starts:  # index = [{...}]
        before["index"] = [*indexes, ours]
        after = _in_table(text, name, tables, 0, lambda part: part["index"].append(ours))
    else:
        before["index"] = [*indexes, ours]
        # At the end, where a table disturbs nothing: uv asks its default index last, wherever it stands.
        after = f"{_with_newline(text)}[[index]]\nurl = {json.dumps(index_url)}\ndefault = true\n"
    if not _reads_as(before, after, _parsed):  # a table header inside a string
        raise _unusual(name)
    return after


_TABLE = r"^[ \t]*\[\[?[\w .\"'-]+\]?\][ \t]*(#.*)?$"  # a line that begins a TOML table


def _in_table(text: str, name: str, tables: list[int], start: int, change: Callable[[Any], None]) -> str:
    """Change one table by way of tomlkit, which would put tables in another order if it had the whole text."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    end = next(other for other in tables if other > start or other == len(text))
    try:
        part = tomlkit.parse(text[start:end])
        change(part)
    except (TOMLKitError, LookupError) as error:
        raise _unusual(name) from error
    return text[:start] + tomlkit.dumps(part) + text[end:]


def _parsed(text: str, name: str) -> dict[str, Any]:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        raise _bad(name, getattr(error, "line", None), f"not TOML: {error}") from error


# conda and mamba: ruamel.yaml says where things are, and text is spliced in, because its round trip re-indents lists


def _conda(text: str, channel_url: str, name: str) -> str:
    before = _loaded(text, name)
    mapped = _set_in_map(text, "custom_channels", CONDA_FORGE, channel_url, name)
    after = _prepend(mapped, "channels", CONDA_FORGE, name)

    expected = dict(before)
    expected["custom_channels"] = {**(before.get("custom_channels") or {}), CONDA_FORGE: channel_url}
    if CONDA_FORGE not in (before.get("channels") or []):
        expected["channels"] = [CONDA_FORGE, *(before.get("channels") or [])]
    if not _reads_as(expected, after, _loaded):  # an alias, a tag, an end-of-document mark: what a splice cannot see
        raise _unusual(name)
    return after


def _set_in_map(text: str, key: str, entry: str, value: str, name: str) -> str:
    """`key: {entry: value}`."""
    node = _child(_root(text, name), key)
    if node is None or _is_null(node):
        return _fill(text, node, key, f"{entry}: {value}")
    if node.id != "mapping":
        raise _bad(name, node.start_mark.line + 1, f"{key} is not a mapping")
    old = _child(node, entry)
    if old is None:
        return _splice(text, node, f"{entry}: {value}")
    return text[: old.start_mark.index] + value + text[old.end_mark.index :]


def _prepend(text: str, key: str, item: str, name: str) -> str:
    """`key: [item, ...]`, unless the item is in the list already."""
    node = _child(_root(text, name), key)
    if node is None or _is_null(node):
        return _fill(text, node, key, f"- {item}")
    if node.id != "sequence":
        raise _bad(name, node.start_mark.line + 1, f"{key} is not a list")
    if any(element.value == item for element in node.value):
        return text
    return _splice(text, node, item if node.flow_style else f"- {item}")


def _fill(text: str, null: Any, key: str, line: str) -> str:
    """A key with one line below it: at the end of the text, or where the key stands without a value."""
    if null is None:
        return f"{_with_newline(text)}{key}:\n  {line}\n"
    emptied = text[: null.start_mark.index] + text[null.end_mark.index :]
    lines = emptied.split("\n")
    row = next(row for row, content in enumerate(lines) if re.match(rf"[\"']?{key}[\"']?\s*:", content))
    return "\n".join([*lines[: row + 1], f"  {line}", *lines[row + 1 :]])


def _splice(text: str, node: Any, entry: str) -> str:
    """One more entry at the head of a mapping or list, in the style that it has."""
    at = node.start_mark.index
    if node.flow_style:
        return text[: at + 1] + entry + (", " if node.value else "") + text[at + 1 :]
    margin: int = node.start_mark.column
    return text[:at] + entry + "\n" + " " * margin + text[at:]


def _root(text: str, name: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        root = YAML().compose(text)
    except YAMLError as error:  # `_loaded` could read it before we added to it: an end-of-document mark
        raise _unusual(name) from error
    if root is not None and (root.id != "mapping" or root.flow_style):
        raise _bad(name, root.start_mark.line + 1, "not one `key: value` a line")
    return root


def _loaded(text: str, name: str) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        loaded = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _bad(name, mark.line + 1 if mark else None, f"not YAML: {error.problem}") from error
    except YAMLError as error:
        raise _bad(name, None, f"not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise _bad(name, 1, "not one `key: value` a line")
    return loaded


def _child(mapping: Any, key: str) -> Any:  # a node of ruamel.yaml
    pairs = mapping.value if mapping is not None else ()
    return next((value for name, value in pairs if name.value == key), None)


def _is_null(node: Any) -> bool:
    return bool(node.id == "scalar" and node.tag == "tag:yaml.org,2002:null")


def _with_newline(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
