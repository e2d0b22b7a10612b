"""condarc, of conda and of mamba: where conda-forge comes from. See the package's docstring.

ruamel.yaml says where things are, and text is spliced in, because its round trip re-indents lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mirrors.configs.text import bad, reads_as, unusual, with_newline

CONDA_FORGE = "conda-forge"
_ADDRESS = re.compile(rf"[a-z]+://.*/{CONDA_FORGE}/?")  # the channel by an address of its own: no setting moves it

_Content = dict[str, Any]
_Node = Any  # of ruamel.yaml


def with_conda_forge(text: str, channel_url: str, name: str) -> str:
    """conda-forge among the channels, from `channel_url`/conda-forge.

    mamba's `mirrored_channels` stand above `custom_channels`, so where they name conda-forge the address comes first
    there.

    Raises:
        BadConfig: the text is not YAML, or its keys are not what conda expects.
    """
    before = _loaded(text, name)
    after = _set_in_map(text, "custom_channels", CONDA_FORGE, channel_url, name)
    after = _by_name(after, name)
    after = _prepended(after, _channels, CONDA_FORGE, name)
    if _names_mirrors(before):
        after = _prepended(after, _mirrors, f"{channel_url}/{CONDA_FORGE}", name, first=True)
    if not reads_as(_expected(before, channel_url), after, _loaded):  # an alias, a tag, an end-of-document mark
        raise unusual(name)
    return after


def _expected(before: _Content, channel_url: str) -> _Content:
    channels = [CONDA_FORGE if _ADDRESS.fullmatch(str(it)) else it for it in before.get("channels") or []]
    expected = {
        **before,
        "custom_channels": {**(before.get("custom_channels") or {}), CONDA_FORGE: channel_url},
        "channels": channels if CONDA_FORGE in channels else [CONDA_FORGE, *channels],
    }
    if _names_mirrors(before):
        mirrors, ours = before["mirrored_channels"], f"{channel_url}/{CONDA_FORGE}"
        known = mirrors[CONDA_FORGE] or []
        expected["mirrored_channels"] = {**mirrors, CONDA_FORGE: known if known[:1] == [ours] else [ours, *known]}
    return expected


def _names_mirrors(content: _Content) -> bool:
    mirrored = content.get("mirrored_channels")
    return isinstance(mirrored, dict) and isinstance(mirrored.get(CONDA_FORGE), list)


def _channels(root: _Node) -> tuple[str, _Node]:
    return "channels", _child(root, "channels")


def _mirrors(root: _Node) -> tuple[str, _Node]:
    return CONDA_FORGE, _child(_child(root, "mirrored_channels"), CONDA_FORGE)


def _by_name(text: str, name: str) -> str:
    """The channel by its name where it was listed by an address."""
    _, channels = _channels(_root(text, name))
    elements = channels.value if channels is not None and channels.id == "sequence" else ()
    for element in reversed(elements):
        if element.id == "scalar" and _ADDRESS.fullmatch(element.value):
            text = text[: element.start_mark.index] + CONDA_FORGE + text[element.end_mark.index :]
    return text


def _set_in_map(text: str, key: str, entry: str, value: str, name: str) -> str:
    """`key: {entry: value}`."""
    node = _child(_root(text, name), key)
    if node is None or _is_null(node):
        return _fill(text, node, key, f"{entry}: {value}")
    if node.id != "mapping":
        raise bad(name, node.start_mark.line + 1, f"{key} is not a mapping")
    old = _child(node, entry)
    if old is None:
        return _splice(text, node, f"{entry}: {value}")
    return text[: old.start_mark.index] + value + text[old.end_mark.index :]


def _prepended(
    text: str, find: Callable[[_Node], tuple[str, _Node]], item: str, name: str, *, first: bool = False
) -> str:
    """`key: [item, ...]`, unless the item is in the list already; `first`: unless it is the first one."""
    key, node = find(_root(text, name))
    if node is None or _is_null(node):
        return _fill(text, node, key, f"- {item}")
    if node.id != "sequence":
        raise bad(name, node.start_mark.line + 1, f"{key} is not a list")
    if any(element.value == item for element in (node.value[:1] if first else node.value)):
        return text
    return _splice(text, node, item if node.flow_style else f"- {item}")


def _fill(text: str, null: _Node, key: str, line: str) -> str:
    """A key with one line below it: at the end of the text, or where the key stands without a value."""
    if null is None:
        return f"{with_newline(text)}{key}:\n  {line}\n"
    emptied = text[: null.start_mark.index] + text[null.end_mark.index :]
    lines = emptied.split("\n")
    row = next(row for row, content in enumerate(lines) if re.match(rf"[\"']?{key}[\"']?\s*:", content))
    return "\n".join([*lines[: row + 1], f"  {line}", *lines[row + 1 :]])


def _splice(text: str, node: _Node, entry: str) -> str:
    """One more entry at the head of a mapping or list, in the style that it has."""
    at = node.start_mark.index
    if node.flow_style:
        return text[: at + 1] + entry + (", " if node.value else "") + text[at + 1 :]
    margin: int = node.start_mark.column
    return text[:at] + entry + "\n" + " " * margin + text[at:]


def _root(text: str, name: str) -> _Node:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        root = YAML().compose(text)
    except YAMLError as error:  # `_loaded` could read it before we added to it: an end-of-document mark
        raise unusual(name) from error
    if root is not None and (root.id != "mapping" or root.flow_style):
        raise bad(name, root.start_mark.line + 1, "not one `key: value` a line")
    return root


def _loaded(text: str, name: str) -> _Content:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        loaded = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise bad(name, mark.line + 1 if mark else None, f"not YAML: {error.problem}") from error
    except YAMLError as error:
        raise bad(name, None, f"not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise bad(name, 1, "not one `key: value` a line")
    return loaded


def _child(mapping: _Node, key: str) -> _Node:
    pairs = mapping.value if mapping is not None else ()
    return next((value for name, value in pairs if name.value == key), None)


def _is_null(node: _Node) -> bool:
    return bool(node.id == "scalar" and node.tag == "tag:yaml.org,2002:null")
