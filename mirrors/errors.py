"""The errors of this folder that a person can mend, all one family.

    MirrorError
        UnknownMirror      no such mirror in the catalogue
        BadMirror          a mirror's URL, or a row of the user's own catalogue, that cannot be used
        NoMirror           none of the candidates is usable
            NoTorch        only of PyTorch's own: another build may be had
        FetchFailed        no source gave the file
        NoSpace            the disk is full
        Busy               another process or thread is adding that very file
        WrongBytes         bytes that were given out turned out wrong
        BadConfig          a user's configuration file that cannot be edited
        HubRefused         the model hub does not give us that repository
        Unreachable        one request failed; `Unreachable.reason` is its half of a sentence

Knows nothing of exit codes or terminals.
"""

from __future__ import annotations

from typing import Literal


class MirrorError(Exception):
    """What happened and why, in one line, and a hint that says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownMirror(MirrorError):
    """No mirror of that name."""


class BadMirror(MirrorError):
    """A mirror that cannot be used as it is written."""


class NoMirror(MirrorError):
    """No candidate is usable."""


class NoTorch(NoMirror):
    """The package index is usable, but nobody has this build of PyTorch."""


class FetchFailed(MirrorError):
    """No source gave the bytes."""


class NoSpace(MirrorError):
    """The disk has no room for the bytes."""


class Busy(MirrorError):
    """Another process or thread is adding that very file."""


class WrongBytes(MirrorError):
    """Bytes that were given out before the whole was verified turned out wrong."""


class BadConfig(MirrorError):
    """A configuration file that we cannot edit without harm."""


class HubRefused(MirrorError):
    """The model hub does not give us that repository: it wants an account that was let in, or has none such."""


class Unreachable(MirrorError):
    """A request that brought no answer, or one that we must not follow.

    Attributes:
        reason: the second half of a sentence about the server ("does not answer within 5 s").
        retry: when another try may help: at once, when nothing better is left, or never.
    """

    def __init__(self, url: str, reason: str, retry: Literal["now", "later", "never"] = "never") -> None:
        super().__init__(f"{url} {reason}")
        self.reason = reason
        self.retry = retry
