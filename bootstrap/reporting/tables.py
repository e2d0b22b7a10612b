"""Timing reports as tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bootstrap.fitting import NARROW, ByWidth
from bootstrap.report import Deployment, Section, Timing
from bootstrap.reporting import compare, predict, rows, spans, words
from bootstrap.reporting.compare import Pair
from bootstrap.reporting.predict import Fetch, Prediction
from bootstrap.reporting.rows import Row
from bootstrap.reporting.words import Language
from bootstrap.units import seconds, signed, size

_BAR, _SHORT_BAR = 30, 12  # characters
_DIGEST = len("sha256:") + 12
_ALMOST_ALL = 0.95  # of a section's time in its phases: less than that is said


def deployment(found: Deployment, lang: Language = "en") -> Group:
    """Where the time went: one table for each section, with a bar for each phase placed within it."""
    title = f"[bold]{words.say('deployment', lang)} {escape(found.id)}[/bold]"
    return Group(title, *(part for section in found.sections for part in _section(section, lang)))


def kept(found: Sequence[Deployment], lang: Language = "en") -> Table:
    """The deployments that are kept, the newest first."""
    names = ["id", *(words.say(name, lang) for name in ("began", "model", "", "seconds", "bytes"))]
    shown = _table(words.say("deployments", lang), names, right=(4, 5))
    for one in found:
        kinds = ", ".join(words.section(section.kind, lang) for section in one.sections)
        moved = sum(sum(rows.fetched(section).values()) for section in one.sections)
        began = one.sections[0].began.partition(".")[0].replace("T", " ") if one.sections else ""
        shown.add_row(one.id, began, escape(one.model or ""), kinds, seconds(one.seconds), size(moved))
    return shown


def comparison(first: Deployment, second: Deployment, lang: Language = "en") -> Group:
    """Two deployments side by side."""
    title = f"[bold]{words.say('compared', lang)}[/bold]\n  A {escape(first.id)}\n  B {escape(second.id)}"
    return Group(title, *(part for pair in compare.pairs(first, second) for part in _pair(pair, lang)))


def _pair(pair: Pair, lang: Language) -> Iterator[RenderableType]:
    names = [words.say("phase", lang), "A", "B", words.say("difference", lang), "%"]
    shown = _table(f"\n{words.section(pair.kind, lang)}", names, right=(1, 2, 3, 4))
    for line in pair.lines:
        shown.add_row(_title(line.example, lang, busy=False), *_numbers(line.seconds))
    shown.add_row(f"[bold]{words.say('total', lang)}[/bold]", *_numbers(pair.seconds))
    yield shown
    if pair.bytes:
        mirrors = _table("", [words.say("mirror", lang), "A", "B"], right=(1, 2))
        for source, both in pair.bytes.items():
            mirrors.add_row(escape(source), *map(size, both))
        yield mirrors


def _numbers(both: tuple[float | None, float | None]) -> list[str]:
    more, share = compare.difference(both), compare.percent(both)
    told = ["-" if value is None else seconds(value) for value in both]
    return [*told, "" if more is None else signed(more), "" if share is None else f"{share:+.0f} %"]


def _section(section: Section, lang: Language) -> Iterator[RenderableType]:
    facts = ", ".join(f"{words.fact(key, lang)} {value}" for key, value in section.facts.items())
    title = f"\n{words.section(section.kind, lang)}: {seconds(section.seconds)}[not bold dim]  {escape(facts)}[/]"
    again = rows.retries(section) > 0
    names = [words.say(name, lang) for name in ("phase", "seconds", "bytes", "from", "retries", "when")]

    def draw(width: int) -> Table:
        shown = _table(title, [name for name in names if again or name != names[4]], right=(1, 2))
        shown.columns[-1].no_wrap, shown.columns[-1].overflow = True, "crop"
        for row in rows.phases(section):
            timing = row.timing
            cells = [_title(timing, lang), seconds(timing.seconds), size(timing.bytes)]
            cells += [escape(rows.sources(timing, lang)), *([str(timing.retries or "")] if again else [])]
            shown.add_row(*cells, _bar(section, row, _BAR if width >= NARROW else _SHORT_BAR))
        return shown

    yield ByWidth(draw)
    if section.layers:
        yield _layers(section, lang)
    yield from _remarks(section, lang)


def _layers(section: Section, lang: Language) -> Table:
    names = [words.say(name, lang) for name in ("layer", "bytes", "")]
    shown = _table(f"\n  {words.say('layers', lang)}", [*names, ""], right=(1,))
    for layer in section.layers:
        cells = (f"    {escape(layer.about)}", size(layer.bytes), words.outcome(layer.outcome, lang))
        shown.add_row(*cells, f"[dim]{escape(layer.digest[:_DIGEST])}…[/dim]")
    return shown


def _title(timing: Timing, lang: Language, *, busy: bool = True) -> str:
    work = f" [dim]({seconds(timing.busy)} {words.say('work', lang)})[/dim]" if busy and timing.busy is not None else ""
    return f"{'    ' if timing.is_part else '  '}{escape(words.phase(timing, lang))}{work}"


def _bar(section: Section, row: Row, width: int) -> str:
    scale = width / max(section.seconds, 1e-9)
    drawn = ["·"] * width
    for timing in row.goes:
        before = min(max(0, int(timing.started * scale)), width - 1)
        length = max(1, min(round(timing.seconds * scale), width - before))
        drawn[before : before + length] = "█" * length
    return "".join(drawn).rstrip("·")


def _remarks(section: Section, lang: Language) -> Iterator[str]:
    covered = spans.covered(section)
    if covered < _ALMOST_ALL * section.seconds:
        told = f"{seconds(covered)} {words.say('of', lang)} {seconds(section.seconds)}"
        yield f"[dim]  {words.say('covered', lang)}: {told}[/dim]"
    found = predict.predict(section)
    if found is not None:
        yield f"[dim italic]{escape(prediction(found, lang))}[/]"


def prediction(found: Prediction, lang: Language) -> str:
    """A prediction in words."""
    lines = [f"  {_fetch(fetch, lang)}" for fetch in found.fetches]
    if found.predicted is not None:
        took, kind = words.say("measured", lang), words.section(found.kind, lang)
        lines.append(f"  {kind}: {seconds(found.predicted)} ({took}: {seconds(found.seconds)})")
    title = words.say("prediction" if found.predicted is not None else "no prediction", lang)
    return f"  {title}. {words.say('predicted', lang)}:\n" + "\n".join(f"  {line}" for line in lines)


def _fetch(fetch: Fetch, lang: Language) -> str:
    when = f", {fetch.measured}" if fetch.measured else ""
    phase = words.step(fetch.phase, lang)
    if fetch.predicted is None:
        return f"{phase}, {size(fetch.bytes)}: {fetch.upstream} {fetch.how}{when}"
    took, rate = words.say("measured", lang), f"{size(fetch.rate)}/s"
    told = f"{phase}, {size(fetch.bytes)}: {seconds(fetch.predicted)} ({took}: {seconds(fetch.seconds)})"
    return f"{told}; {fetch.upstream} {rate}: {fetch.how}{when}"


def _table(title: str, names: Sequence[str], right: Collection[int]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    for place, name in enumerate(names):
        made.add_column(name, justify="right" if place in right else "left", overflow="fold")
    return made
