"""What all edits of configuration texts share: line endings that come back, and errors that name the file and line.

Knows nothing of any format.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from mirrors.errors import BadConfig

MARK = "\ufeff"  # of byte order


def edited(text: str, edit: Callable[[str], str]) -> str:
    """Run an edit on the text with plain line endings, and give every line that it left alone its own ending back."""
    mark = MARK if text.startswith(MARK) else ""
    old = text.removeprefix(mark).split("\n")
    plain = [line.removesuffix("\r") for line in old]
    carriage = "\r" if old[0].endswith("\r") else ""
    unfinished = bool(plain[-1])  # no line end after the last line: some editors of ours would append to that line
    new_text = edit("\n".join(plain) + "\n" * unfinished)
    if unfinished:
        new_text = new_text.removesuffix("\n")
    new = new_text.split("\n")
    result = [line + carriage for line in new[:-1]] + new[-1:]
    for same in difflib.SequenceMatcher(None, plain, new, autojunk=False).get_matching_blocks():
        for offset in range(same.size):
            if same.a + offset < len(old) - 1 and same.b + offset < len(new) - 1:
                result[same.b + offset] = old[same.a + offset]
    return mark + "\n".join(result)


def bad(name: str, line: int | None, problem: str, hint: str = "mend the file, or move it away") -> BadConfig:
    """The error for a text that its own tool could not read, or would read as something else than we expect."""
    return BadConfig(f"{name}{f', line {line}' if line else ''}: {problem}", hint)


def unusual(name: str) -> BadConfig:
    """The error for a text that its own tool can read, and that we cannot edit safely."""
    return bad(name, None, "its form is too unusual to be edited safely", "write it plainly, one key a line")


def reads_as(expected: object, text: str, load: Callable[[str, str], object]) -> bool:
    """Whether the new text says what it should, to a parser that was not told how it was made."""
    try:
        return load(text, "") == expected
    except BadConfig:
        return False


def with_newline(text: str) -> str:
    """The text with an end of its last line."""
    return text if not text or text.endswith("\n") else text + "\n"
