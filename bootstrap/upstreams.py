"""What the upstream was measured at when mirrors were chosen, for the report's prediction; or why it was not.

Takes what there is: measures nothing itself, and invents no number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from bootstrap.report import Upstream
from mirrors.urls import host

if TYPE_CHECKING:
    from mirrors.choose import Choice
    from mirrors.probe import Measurement


def told(phase: str, choices: Sequence[Choice]) -> tuple[Upstream, ...]:
    """What the choices of mirrors for a phase's bytes say of their upstreams; further ones own only hosts of theirs."""
    taken = _hosts(choices[0]) if choices else set()
    return tuple(
        replace(_told(phase, choice), hosts=tuple(sorted(_hosts(choice) - taken)) if place else ())
        for place, choice in enumerate(choices)
    )


def asked(choices: Sequence[Choice]) -> tuple[int, dict[str, int]]:
    """The bytes that choosing mirrors read, in all and by host, who gave most first."""
    given: Counter[str] = Counter()
    for choice in choices:
        given.update({host(found.url or found.mirror.url): found.probe_bytes for found in choice.measurements})
    return given.total(), {name: count for name, count in given.most_common() if name and count}


def _told(phase: str, choice: Choice) -> Upstream:
    kept, found = sum(found.kept for found in choice.measurements), choice.upstream
    if found is None:
        asked = ", ".join(sorted({one.mirror.name for one in choice.measurements})) or "nobody"
        return Upstream(phase, "upstream", None, None, None, f"was not measured; asked: {asked}", kept)
    name, at = found.mirror.name, _iso(found.at)
    if found.verdict != "good" or not found.rate:
        return Upstream(phase, name, None, found.latency, at, f"could not be used: {found.reason}", kept)
    return Upstream(phase, name, found.rate, found.latency, at, _how(found, len(choice.measurements) - 1), kept)


def _hosts(choice: Choice) -> set[str]:
    return {host(found.url) for found in choice.sources if found.url}


def _how(found: Measurement, others: int) -> str:
    connections = f"{found.connections} connection{'s' * (found.connections != 1)}"
    sample = f" of {found.file.filename}" if found.file else ""
    beside = f", {others} other{'s' * (others != 1)} measured at the same time" if others else ""
    return f"a part{sample} over {connections}{beside}"


def _iso(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds") if seconds else None
