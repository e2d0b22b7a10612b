"""Choices of earlier runs: by network and plan, for a week, and only after one request that confirms them.

One JSON file, readable by its owner alone, without credentials: mirrors are matched to the candidates at hand, and take
theirs from there. What cannot be read there is ignored, and what cannot be written is not remembered. Knows nothing of
what a network is.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mirrors import probe
from mirrors.catalogue import Mirror
from mirrors.choose import Choice, choose
from mirrors.errors import NoMirror
from mirrors.http import HttpSettings
from mirrors.index import Listed
from mirrors.probing.measurement import Measurement, Wanted
from mirrors.store import Store
from mirrors.urls import host, shown, with_credentials

MAX_AGE = 7 * 24 * 3600.0  # seconds
_CONFIRM_SECONDS = 2.0
_AS_FAST = 0.5  # of the rate that is remembered: slower than that is worth measuring anew


class Remembered:
    """The choices in one file. Several processes may write it at once: the last one's stays, whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, key: str, mirrors: Sequence[Mirror]) -> tuple[Measurement, ...]:
        """The sources that were chosen under that key and are candidates now, best first; empty: nothing is known."""
        entry = self._entries().get(key, {})
        try:
            rows = [_measurement(row, mirrors) for row in entry.get("sources", ())]
        except (KeyError, TypeError, ValueError, AttributeError):
            return ()
        return tuple(replace(row, at=float(entry["at"])) for row in rows if row is not None)

    def keep(self, key: str, choice: Choice) -> None:
        """Remember what was chosen."""
        rows = [row for found in choice.sources if (row := _row(found)) is not None]
        self._write({**self._entries(), key: {"at": time.time(), "sources": rows}})

    def forget(self, key: str) -> None:
        """Remember nothing under that key."""
        entries = self._entries()
        if entries.pop(key, None) is not None:
            self._write(entries)

    def _entries(self) -> dict[str, Any]:
        """All that is there and not too old."""
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))["choices"]
            return {key: entry for key, entry in entries.items() if 0 <= time.time() - float(entry["at"]) < MAX_AGE}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _write(self, entries: Mapping[str, Any]) -> None:
        temporary: Path | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(  # of mode 0600
                "w",
                encoding="utf-8",
                dir=self._path.parent,
                prefix=f".{self._path.name}.",
                suffix=f".{os.getpid()}.tmp",
                delete=False,
            ) as file:
                temporary = Path(file.name)
                json.dump({"choices": entries}, file, indent=1)
            temporary.replace(self._path)
        except OSError:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


def select(
    mirrors: Sequence[Mirror],
    wanted: Wanted,
    http: HttpSettings,
    *,
    amount: int,
    store: Store,
    remembered: Remembered,
    key: str,
) -> Choice:
    """The mirrors for a plan: as the last time, if one request confirms that, else measured, chosen and remembered.

    Args:
        mirrors: as for `probe.measure`, like what follows.
        wanted: the pinned file that they must have.
        http: how to ask.
        amount: bytes that the install needs.
        store: where the bytes that were read go.
        remembered: where choices are kept.
        key: says which network and which plan this is.

    Raises:
        NoMirror: none is usable; says why for each.
    """
    choice = _confirmed(remembered.recall(key, mirrors), wanted, http, amount, store)
    if choice is None:
        choice = choose(probe.measure(mirrors, wanted, http, amount=amount, store=store), amount)
        remembered.keep(key, choice)
    return choice


def _confirmed(
    known: Sequence[Measurement], wanted: Wanted, http: HttpSettings, amount: int, store: Store
) -> Choice | None:
    """The choice among what is remembered, if the best one still serves the file at a good half of its rate."""
    try:
        choice = choose(known, amount)
    except NoMirror:
        return None
    best = choice.sources[0]
    (now,) = probe.measure([best.mirror], _same_file(wanted, best), http, store=store, deadline=_CONFIRM_SECONDS)
    slow = (now.single_rate or math.inf) < _AS_FAST * (best.single_rate or 0.0)
    if now.verdict != "good" or slow:
        return None
    best = replace(best, latency=now.latency, requests=now.requests, probe_bytes=now.probe_bytes, kept=now.kept)
    sources = (best, *choice.sources[1:])
    return replace(choice, sources=sources, measurements=sources, reason=f"{choice.reason}; as measured before")


def _same_file(wanted: Wanted, best: Measurement) -> Wanted:
    """The wanted file where it was the last time, so that no index page is needed."""
    file = best.file
    if wanted.address is not None or file is None:
        return wanted
    if file.sha256 is not None and wanted.allows(file.sha256):
        wanted = replace(wanted, filename=file.filename, sha256=file.sha256)
    return replace(wanted, address=lambda _: file.url)


def _row(found: Measurement) -> dict[str, Any] | None:
    """A source as it is remembered; None: it cannot be without a secret."""
    file = found.file
    if file is None or (urlsplit(file.url).query and host(file.url) != host(found.mirror.url)):
        return None
    return {
        "mirror": [found.mirror.kind, shown(found.mirror.url)],
        "latency": found.latency,
        "rate": found.rate,
        "single_rate": found.single_rate,
        "connections": found.connections,
        "file": [file.filename, shown(file.url), file.sha256, file.size],
    }


def _measurement(row: Mapping[str, Any], mirrors: Sequence[Mirror]) -> Measurement | None:
    """What a row says of one of the candidates; None: it is about another mirror.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: this is no row.
    """
    kind, url = row["mirror"]
    mirror = next((mirror for mirror in mirrors if (mirror.kind, shown(mirror.url)) == (kind, url)), None)
    if mirror is None:
        return None
    filename, address, sha256, size = row["file"]
    if not isinstance(filename, str) or not isinstance(sha256, str | None) or not isinstance(size, int | None):
        raise TypeError("not a file")
    file = Listed(filename, with_credentials(address, mirror.url), sha256, size)
    latency, rate, single = (_number(row[name]) for name in ("latency", "rate", "single_rate"))
    reason = f"had {filename} when it was measured last"
    return Measurement(mirror, latency, rate, "good", reason, 0, 0, file, int(row["connections"]), single)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is no number of seconds or bytes")
    return float(value)
