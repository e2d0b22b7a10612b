"""The best mirrors for a plan from here: as they were chosen the last time on this network, or measured now.

One process measures at a time; a second one finds what the first has chosen, and asks for no byte twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from bootstrap import network
from bootstrap.state import Home, writable
from mirrors import choose, probe
from mirrors.catalogue import Mirror
from mirrors.choose import Choice
from mirrors.http import HttpSettings
from mirrors.probe import Wanted
from mirrors.remember import Remembered, select
from mirrors.store import Store


def best(
    home: Home,
    mirrors: Sequence[Mirror],
    wanted: Wanted,
    http: HttpSettings,
    *,
    amount: int,
    plan: str,
    keep: bool = True,
) -> Choice:
    """Choose mirrors.

    Args:
        home: where the choice is remembered, and the bytes go that were measured with.
        mirrors: the candidates.
        wanted: the pinned file that they must have.
        http: how to ask.
        amount: bytes that are to be fetched.
        plan: names what they are for.
        keep: whether anything may be remembered and stored.

    Raises:
        NoMirror: none is usable; says why for each.
    """
    if not keep:
        return choose.choose(probe.measure(mirrors, wanted, http, amount=amount), amount)
    with FileLock(writable(home.cache) / ".measure.lock"):
        key = f"{network.identity(http)} {plan}"
        store, remembered = Store(home.store), Remembered(_file(home))
        return select(mirrors, wanted, http, amount=amount, store=store, remembered=remembered, key=key)


def forget(home: Home) -> None:
    """Measure anew the next time, since a mirror that was chosen gave wrong bytes."""
    with suppress(OSError):
        _file(home).unlink()


def _file(home: Home) -> Path:
    return home.cache / "choices.json"
