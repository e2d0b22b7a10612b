"""The checks of single values that options are made of. Standard library only; knows nothing of models."""

import math
import unicodedata
from dataclasses import dataclass

from runtime.problems import RuntimeProblem

_KINDS: dict[object, str] = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}

#: Unicode's categories of control characters and of halves of characters.
_NOT_TEXT = {"Cc", "Cs"}


class InvalidOption(RuntimeProblem):
    """A setting that cannot be used; the message names it, the hint says what can."""


@dataclass(frozen=True)
class Bound:
    """The smallest and largest value that a setting takes."""

    low: float
    high: float

    def check(self, name: str, value: float) -> None:
        """Raises InvalidOption unless `value` lies within."""
        if not self.low <= value <= self.high:
            raise InvalidOption(f"{name} is {value}", f"{name} goes from {self.low} to {self.high}")


def check_type(name: str, value: object, kind: object) -> None:
    """Raises InvalidOption unless `value` is of that type; whole numbers pass as floats, nothing passes as another."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidOption(f"{name} is {value!r}", f"{name} is to be {_KINDS.get(kind, kind)}")


def check_text(name: str, value: str, longest: int) -> None:
    """Raises InvalidOption where the text is longer than `longest` characters or holds control characters."""
    if len(value) > longest:
        raise InvalidOption(f"{name} has {len(value)} characters", f"at most {longest}")
    if any(unicodedata.category(character) in _NOT_TEXT and character not in "\t\r\n" for character in value):
        raise InvalidOption(f"{name} holds characters that are not text", "plain text, please")
