"""The one family of errors that end a command, and how a command ends for each.

    SetupError            bootstrap's own
    mirrors.MirrorError   no mirror, bad mirror, bytes that do not match
    images.ImageError     no engine, a build or a container that failed
    runtime.RuntimeProblem  unknown model, unusable picture, invalid option

All carry `hint`: what the user can do. The three folders below must not import this one, so the
family is put together here and nowhere else.
"""

from __future__ import annotations


class SetupError(Exception):
    """What happened and why, in one line, and a hint that says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageProblem(SetupError):
    """The command was called with something that cannot work: exit code 2."""
