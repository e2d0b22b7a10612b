"""A deployment's timing report as one HTML page: what took longest, the waterfall, the mirrors, the prediction."""

from __future__ import annotations

from html import escape

from bootstrap.report import Deployment, Section
from bootstrap.reporting import document, predict, rows, spans, waterfall, words
from bootstrap.reporting.predict import Fetch
from bootstrap.reporting.words import Language
from bootstrap.units import seconds, size

_FILES = 12


def html(found: Deployment, lang: Language = "en") -> str:
    """The page as text."""
    title = words.say("title", lang)
    legend = "".join(
        f'<li class="{kind}"><i></i>{words.say(kind, lang)}</li>' for kind in ("network", "disk", "runs", "other")
    )
    body = (
        f'<header><h1>{title}</h1><p class="total number">{seconds(found.seconds)}</p>'
        f"<p><b>{escape(found.model or '')}</b> <small>{words.say('deployment', lang)} {escape(found.id)}</small></p>"
        f'<ul class="legend">{legend}</ul></header>'
    )
    sections = "".join(_section(section, lang) for section in found.sections)
    return document.html(f"{title}: {found.model or ''} {found.id}", f"{body}<main>{sections}</main>", lang)


def _section(section: Section, lang: Language) -> str:
    began = section.began.replace("T", " ").partition(".")[0].partition("+")[0]
    told = {words.fact(key, lang): value for key, value in section.facts.items()}
    parts = (
        f"<h2><span>{escape(words.section(section.kind, lang))}</span>"
        f'<span class="number">{seconds(section.seconds)}</span></h2>',
        f"<p><small>{words.say('began', lang)} {escape(began)} UTC</small></p>",
        document.facts(told) if told else "",
        _lead(section, lang),
        waterfall.html(section, lang),
        _mirrors(section, lang),
        _prediction(section, lang),
        _layers(section, lang),
        _files(section, lang),
        _covered(section, lang),
    )
    return f"<section>{''.join(parts)}</section>"


def _lead(section: Section, lang: Language) -> str:
    """What took longest, in words."""
    told = (
        f'<b>{escape(words.phase(timing, lang))}</b> <span class="number">{seconds(timing.seconds)}'
        f" ({_percent(timing.seconds, section.seconds)})</span>"
        for timing in rows.longest(section)
    )
    text = " · ".join(told)
    return f"<p>{words.say('longest', lang)}: {text}</p>" if text else ""


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 1e-9):.0f} %"


def _mirrors(section: Section, lang: Language) -> str:
    given, again = rows.fetched(section), rows.retries(section)
    if not given:
        return ""
    total = sum(given.values())
    lines = [
        [
            escape(source),
            size(count),
            _percent(count, total),
            f'<i style="width:{100 * count / max(given.values()):.1f}%"></i>',
        ]
        for source, count in given.items()
    ]
    names = (
        (words.say("mirror", lang), ""),
        (words.say("bytes", lang), "number"),
        (words.say("share", lang), "number"),
        ("", "share network"),
    )
    told = f"{size(total)}, {words.say('retries', lang)}: {again or words.say('none', lang)}"
    return f"<h3>{words.say('mirrors', lang)} <small>{told}</small></h3>{document.table(names, lines)}"


def _prediction(section: Section, lang: Language) -> str:
    found = predict.predict(section)
    if found is None:
        return ""
    notes = "".join(f"<p><small>{escape(_how(fetch, lang))}</small></p>" for fetch in found.fetches)
    if found.predicted is None:
        return f'<div class="guess"><h3>{words.say("no prediction", lang)}</h3>{notes}</div>'
    longest = max(found.predicted, found.seconds, 1e-9)
    bars = "".join(
        f"<li><span>{words.say(name, lang)}</span><time>{seconds(value)}</time>"
        f'<span class="bar {name}" style="width:{100 * value / longest:.1f}%"></span></li>'
        for name, value in (("measured", found.seconds), ("predicted", found.predicted))
    )
    return (
        f'<div class="guess"><h3>{words.say("prediction", lang)}</h3><ul>{bars}</ul>'
        f"<p><small>{words.say('prediction note', lang)}</small></p>{notes}</div>"
    )


def _how(fetch: Fetch, lang: Language) -> str:
    rate = f" {size(fetch.rate)}/s," if fetch.rate else ""
    when = f" ({fetch.measured})" if fetch.measured else ""
    told = f": {seconds(fetch.seconds)} → {seconds(fetch.predicted)}" if fetch.predicted is not None else ""
    return f"{words.step(fetch.phase, lang)}, {size(fetch.bytes)}{told}. {fetch.upstream}:{rate} {fetch.how}{when}"


def _layers(section: Section, lang: Language) -> str:
    if not section.layers:
        return ""
    lines = [
        [escape(one.about), size(one.bytes), escape(words.outcome(one.outcome, lang)), escape(one.digest)]
        for one in section.layers
    ]
    names = ((words.say("layer", lang), ""), (words.say("bytes", lang), "number"), ("", ""), ("", "dim"))
    return f"<details><summary>{words.say('layers', lang)}</summary>{document.table(names, lines)}</details>"


def _files(section: Section, lang: Language) -> str:
    if not section.files:
        return ""
    slowest = sorted(section.files, key=lambda file: file.started - file.ended)[:_FILES]
    lines = [
        [escape(file.name), size(file.bytes), seconds(file.ended - file.started), escape(", ".join(file.sources))]
        for file in slowest
    ]
    names = (
        (words.say("file", lang), ""),
        (words.say("bytes", lang), "number"),
        (words.say("seconds", lang), "number"),
        (words.say("from", lang), "dim"),
    )
    title = f"{words.say('files', lang)} ({len(slowest)} {words.say('of', lang)} {len(section.files)})"
    return f"<details><summary>{title}</summary>{document.table(names, lines)}</details>"


def _covered(section: Section, lang: Language) -> str:
    covered = spans.covered(section)
    told = (
        f"{seconds(covered)} {words.say('of', lang)} {seconds(section.seconds)} ({_percent(covered, section.seconds)})"
    )
    return f"<footer>{words.say('covered', lang)}: {told}</footer>"
