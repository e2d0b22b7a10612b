"""The waterfall of a section as HTML: a row for each phase, its bar where it was on the time axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from bootstrap.report import Flow, Section, Timing
from bootstrap.reporting import rows, words
from bootstrap.reporting.rows import Row
from bootstrap.reporting.words import Language
from bootstrap.units import seconds, size

_TICKS = 6  # on the time axis at most
_POINTS = 240  # of a line of speeds at most
_SHOWN_SOURCES = 3
_NOTHING = 0.05  # seconds of work that are not worth telling


def html(section: Section, lang: Language) -> str:
    """All rows, with the axis above them."""
    tick = _tick(section.seconds)
    longest = {timing.phase for timing in rows.longest(section, 1)}
    lines = [_axis(section.seconds, tick)]
    for row in rows.phases(section):
        timing = row.timing
        lines.append(_row(row, section.seconds, lang, longest=timing.phase in longest))
        if timing.phase.endswith(".download"):
            lines += _speed(timing, section, lang)
    share = 100 * tick / max(section.seconds, 1e-9)
    return f'<ol style="--tick:{share:.3f}%">{"".join(lines)}</ol>'


def _tick(total: float) -> float:
    """Seconds between two lines of the axis: 1, 2 or 5 times a power of ten, or whole minutes."""
    least = max(total, 1e-6) / _TICKS
    power = 10.0 ** math.floor(math.log10(least))
    steps = [factor * power for factor in (1, 2, 5, 10)] if least < 60 else [60.0 * n for n in (1, 2, 5, 10, 30, 60)]
    return next((step for step in steps if step >= least), 3600.0 * math.ceil(least / 3600))


def _axis(total: float, tick: float) -> str:
    marks = (number * tick for number in range(int(total / tick) + 1))
    # No number where there is no room for it before the right edge.
    told = (
        f'<span style="left:{100 * mark / total:.2f}%">{_mark(mark, tick)}</span>'
        for mark in marks
        if mark < 0.93 * total
    )
    return f'<li class="axis"><span class="name"></span><span class="track">{"".join(told)}</span><time></time></li>'


def _mark(moment: float, tick: float) -> str:
    if tick >= 60:
        return f"{moment / 60:.0f} min"
    digits = max(0, -math.floor(math.log10(tick) + 1e-9))
    return f"{moment:.{digits}f} s"


def _row(row: Row, total: float, lang: Language, *, longest: bool) -> str:
    timing = row.timing
    bars = (f'<span class="bar" style="{_place(it.started, it.seconds, total)}"></span>' for it in row.goes)
    kinds = " ".join(filter(None, (rows.category(timing), "part" * timing.is_part, "longest" * longest)))
    note = _note(timing, lang)
    more = f"<small>{escape(note)}</small>" if note else ""
    return (
        f'<li class="{kinds}"><span class="name">{escape(words.phase(timing, lang))}{more}</span>'
        f'<span class="track">{"".join(bars)}</span>'
        f"<time>{seconds(timing.seconds)}</time></li>"
    )


def _note(timing: Timing, lang: Language) -> str:
    names = rows.sources(timing, lang).split(", ")
    more = f" +{len(names) - _SHOWN_SOURCES}" if len(names) > _SHOWN_SOURCES else ""
    told = [size(timing.bytes), ", ".join(names[:_SHOWN_SOURCES]) + more]
    if timing.retries:
        told.append(f"{timing.retries} {words.say('retries', lang)}")
    if timing.busy is not None and timing.busy >= _NOTHING:
        told.append(f"{seconds(timing.busy)} {words.say('work', lang)}")
    return " · ".join(filter(None, told))


def _place(started: float, length: float, total: float) -> str:
    scale = 100 / max(total, 1e-9)
    left = min(max(started * scale, 0.0), 100.0)
    return f"left:{left:.2f}%;width:{min(length * scale, 100 - left):.2f}%"


def _speed(timing: Timing, section: Section, lang: Language) -> Iterator[str]:
    """What came in when, of all mirrors together, below the download that it is of."""
    flows = [flow for flow in section.flows if f"{flow.phase}.download" == timing.phase]
    if not flows:
        return
    started, step, rates = _together(flows)
    if len(rates) < 3:
        return
    peak = max(rates)
    corners = " ".join(f"{place},{100 - 100 * rate / peak:.1f}" for place, rate in enumerate(rates))
    place = _place(started, step * len(rates), section.seconds)
    yield (
        f'<li class="part speed"><span class="name">{words.say("speed", lang)}'
        f'<small>{words.say("peak", lang)} {size(peak)}/s</small></span><span class="track">'
        f'<svg viewBox="0 0 {len(rates) - 1} 100" preserveAspectRatio="none" style="{place}" aria-hidden="true">'
        f'<polygon points="0,100 {corners} {len(rates) - 1},100"/></svg></span><time></time></li>'
    )


def _together(flows: Sequence[Flow]) -> tuple[float, float, list[float]]:
    """When they began, the seconds of a slot, and the bytes/s in each."""
    step, started = max(flow.step for flow in flows), min(flow.started for flow in flows)
    given: Counter[int] = Counter()
    for flow in flows:
        for place, count in enumerate(flow.bytes):
            given[round((flow.started - started + place * flow.step) / step)] += count
    slots = [given[place] for place in range(max(given, default=-1) + 1)]
    joined = math.ceil(len(slots) / _POINTS) or 1
    rates = [sum(slots[at : at + joined]) / (step * joined) for at in range(0, len(slots), joined)]
    return started, step * joined, rates if any(rates) else []
