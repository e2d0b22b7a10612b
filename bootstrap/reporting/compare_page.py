"""Two deployments side by side as one HTML page."""

from __future__ import annotations

from html import escape

from bootstrap import units
from bootstrap.report import Deployment
from bootstrap.reporting import compare, document, words
from bootstrap.reporting.compare import Line, Pair
from bootstrap.reporting.words import Language
from bootstrap.units import seconds, size


def html(first: Deployment, second: Deployment, lang: Language = "en") -> str:
    """The page as text."""
    title = words.say("compared", lang)
    totals = "".join(
        f'<div><p class="total number">{seconds(one.seconds)}</p>'
        f'<p><span class="key-{key}">■</span> {key.upper()}, {escape(one.model or "")} '
        f"<small>{escape(one.id)}</small></p></div>"
        for key, one in (("a", first), ("b", second))
    )
    sections = "".join(_pair(pair, lang) for pair in compare.pairs(first, second))
    body = f'<header><h1>{title}</h1><div class="versus">{totals}</div></header><main>{sections}</main>'
    return document.html(f"{title}: {first.id}, {second.id}", body, lang)


def _pair(pair: Pair, lang: Language) -> str:
    title = f"<h2><span>{escape(words.section(pair.kind, lang))}</span>{_told(compare.difference(pair.seconds))}</h2>"
    return f"<section>{title}{_facts(pair, lang)}{_phases(pair, lang)}{_mirrors(pair, lang)}</section>"


def _facts(pair: Pair, lang: Language) -> str:
    """The facts that differ, and those that both have."""
    first, second = (one.facts if one else {} for one in (pair.first, pair.second))
    told = {}
    for key in {**first, **second}:
        ours, theirs = first.get(key, document.NOTHING), second.get(key, document.NOTHING)
        told[words.fact(key, lang)] = ours if ours == theirs else f"{ours} → {theirs}"
    return document.facts(told)


def _phases(pair: Pair, lang: Language) -> str:
    longest = max([value or 0.0 for line in pair.lines for value in line.seconds], default=0.0) or 1e-9
    lines = [
        [f"<b>{words.say('total', lang)}</b>", *_cells(pair.seconds), ""],
        *([_name(line, lang), *_cells(line.seconds), _bars(line, longest)] for line in pair.lines),
    ]
    names = (
        (words.say("phase", lang), ""),
        ("A", "number"),
        ("B", "number"),
        (words.say("difference", lang), "number"),
        ("", "bars"),
    )
    return document.table(names, lines)


def _name(line: Line, lang: Language) -> str:
    name = escape(words.phase(line.example, lang))
    return f'<span class="name part-of">{name}</span>' if line.example.is_part else name


def _cells(both: tuple[float | None, float | None]) -> list[str]:
    more = compare.percent(both)
    share = f" <small>{more:+.0f} %</small>".replace("-", "\N{MINUS SIGN}") if more is not None else ""
    return [
        *(document.NOTHING if value is None else seconds(value) for value in both),
        _told(compare.difference(both)) + share,
    ]


def _told(difference: float | None) -> str:
    if difference is None:
        return ""
    told = units.signed(difference).replace("-", "\N{MINUS SIGN}")
    kind = "" if abs(difference) < compare.ALIKE else "better" if difference < 0 else "worse"
    return f'<span class="number {kind}">{told}</span>'


def _bars(line: Line, longest: float) -> str:
    bars = (
        '<i class="missing"></i>' if value is None else f'<i style="width:{100 * value / longest:.1f}%"></i>'
        for value in line.seconds
    )
    return f'<span class="pair">{"".join(bars)}</span>'


def _mirrors(pair: Pair, lang: Language) -> str:
    if not pair.bytes:
        return ""
    lines = [
        [escape(source), *(size(count) if count else document.NOTHING for count in both)]
        for source, both in pair.bytes.items()
    ]
    totals = [sum(both[place] for both in pair.bytes.values()) for place in (0, 1)]
    lines.append([f"<b>{words.say('total', lang)}</b>", *map(size, totals)])
    names = ((words.say("mirror", lang), ""), ("A", "number"), ("B", "number"))
    return f"<h3>{words.say('mirrors', lang)}</h3>{document.table(names, lines)}"
