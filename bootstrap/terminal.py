"""What a terminal would obey rather than show: control characters, such as those that begin an escape sequence."""

from __future__ import annotations

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))
_SHOWN = str.maketrans({**_CONTROLS, ord("\n"): "\n", ord("\t"): "\t"})


def harmless(text: str) -> str:
    """The text without them, but for lines and tabs: a mirror's answer or a file's name may hold anything."""
    return text.translate(_SHOWN)
