"""The clean command: gives back the room of what nothing uses any more (see bootstrap.leftovers).

Environments that are whole stay, so that one can go back to them, and so do models. What a running process holds stays:
an installation under way is waited for by the person, a file that is being fetched is skipped, and so is one that was
used a moment ago, since who reads a file of the store holds no lock on it (unless the person names another time).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from bootstrap import alone, leftovers
from bootstrap.errors import UsageProblem
from bootstrap.leftovers import Leftover
from bootstrap.state import Home
from mirrors.store import Store

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> float:
    """A time such as 30d, 12h or 2w.

    Raises:
        UsageProblem: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip().lower())
    if found is None:
        raise UsageProblem(f"{text!r} is no length of time", "write it as 30d, 12h or 2w")
    return float(int(found[1]) * _UNITS[found[2]])


def find(home: Home, unused_for: float | None = None) -> list[Leftover]:
    """What nothing uses, and nothing used for so many seconds; None: RECENT for files of the store. Changes nothing.

    Raises:
        SetupError: an installation is under way.
    """
    with alone.undisturbed(home):
        in_store = leftovers.in_store(home, leftovers.RECENT if unused_for is None else unused_for)
        found = [*in_store, *leftovers.interrupted(home)]
    latest = time.time() - (unused_for or 0.0)
    return [leftover for leftover in found if leftover.used <= latest]


def remove(home: Home, found: Sequence[Leftover], on_removed: Callable[[Leftover], None]) -> list[Leftover]:
    """Remove what was found; those that are gone. What is in use by now stays.

    Raises:
        SetupError: an installation is under way. MirrorError, OSError: a file cannot be removed.
    """
    gone = []
    with alone.undisturbed(home):
        unfinished = {leftover.path for leftover in leftovers.interrupted(home)}
        for leftover in found:
            in_store = leftover.sha256 is not None
            if (in_store or leftover.path in unfinished) and leftovers.discard(home, leftover):
                gone.append(leftover)
                on_removed(leftover)
        Store(home.store).sweep()
    return gone
