"""How results look: tables for a terminal. Knows how to draw, not how to find out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from bootstrap import machine_tables
from bootstrap.fitting import ByWidth, fitting
from bootstrap.placement import Placement
from bootstrap.plan import Plan
from bootstrap.recommend import Recommendation
from bootstrap.units import size
from images.spec import Destination, ImageSpec, PlannedStep
from mirrors.catalogue import Mirror
from mirrors.probe import Measurement
from mirrors.urls import shown

if TYPE_CHECKING:
    from bootstrap.detect import Detected
    from bootstrap.environments import Environment
    from bootstrap.leftovers import Leftover
    from bootstrap.model_list import Offered
    from images.verify import Verified

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_URL = 100  # characters: a longer one is folded everywhere, lest nothing is left for the other columns


def detection_tables(found: Detected) -> Iterator[Table]:
    """What the machine is, the mirrors as seen from it, and what we would do here."""
    yield from machine_tables.tables(found.machine)
    if found.measurements:
        yield verdicts_table(found.measurements, found.mirror, title="\nPackage mirrors")
    yield recommendation_table(found.advice, found.mirror_reason, found.placement)


def verdicts_table(
    measurements: Sequence[Measurement], chosen: str | None = None, *, title: str = "Measured from here"
) -> Table:
    """Each measured mirror with its verdict and the reason for it, the best first; the chosen one is marked."""
    table = _table(title, ("mirror", "verdict", "latency", "rate", "reason"))
    for m in sorted(measurements, key=lambda m: (m.verdict != "good", -(m.rate or 0), m.latency or 1e9)):
        latency = f"{m.latency * 1000:.0f} ms" if m.latency is not None else ""
        rate = f"{size(m.rate)}/s" if m.rate else ""
        colour = "green" if m.verdict == "good" else "red"
        mark = " ←" if m.mirror.id == chosen else ""
        verdict = f"[{colour}]{m.verdict}[/{colour}]"
        table.add_row(escape(m.mirror.id) + mark, verdict, latency, rate, escape(m.reason))
    return table


def models_table(offered: Sequence[Offered]) -> ByWidth:
    """The models that can be installed."""
    table = _table("Models", ("id", "title", "size", "precision", "licence", "account", "sha256", "here"))
    for model in offered:
        account = {True: "needed", False: "no", None: "not known"}[model.gated]
        licence = escape(model.licence or "not named")
        about = "" if model.exact else "~"
        here = "[green]installed[/green]" if model.installed else ""
        row = (about + size(model.bytes), model.precision, licence, account, model.hashes, here)
        table.add_row(model.id, f"[dim]{escape(model.title)}[/dim]", *row)
    return fitting(table, "id", {"title", "precision"})


def leftovers_table(leftovers: Sequence[Leftover]) -> Table:
    """What `clean` would remove: one row for each kind of thing, and for each environment."""
    table = _table("Nothing uses", ("what", "how many", "room"))
    kinds = dict.fromkeys(leftover.what for leftover in leftovers)
    for what in kinds:
        these = [leftover for leftover in leftovers if leftover.what == what]
        table.add_row(what, str(len(these)), size(sum(leftover.size for leftover in these)))
        for leftover in these:
            if leftover.sha256 is None:
                table.add_row(f"  [dim]{escape(leftover.path.name)}[/dim]", "", f"[dim]{size(leftover.size)}[/dim]")
    return table


def environments_table(environments: Sequence[Environment]) -> ByWidth:
    """The environments: what they were made from, when, and which one is in use."""
    table = _table(
        "Environments", ("", "name", "build", "Python", "back end", "lock", "size", "made", "verified", "runs in it")
    )
    for it in environments:
        one = it.generation
        mark = {"current": "[green]current[/green]", "previous": "previous"}.get(it.state, "")
        lock = f"{escape(one.lock)} [dim]{one.lock_sha256[:8]}[/dim]"
        times = (_minute(one.made), _minute(one.verified))
        runs = escape(", ".join(map(str, it.processes)))
        table.add_row(mark, one.name, escape(one.build), one.python, one.backend, lock, size(one.size), *times, runs)
    return fitting(table, "name", {"build", "Python", "back end", "lock"})


def status_table(rows: Iterable[tuple[str, str]]) -> Table:
    """The server as it is."""
    table = _table("", ("", ""))
    for name, told in rows:
        table.add_row(name, escape(told))
    return table


def _minute(when: str) -> str:
    """A time of ours (ISO 8601, UTC) as people here read it."""
    return datetime.fromisoformat(when).astimezone().strftime("%Y-%m-%d %H:%M") if when else ""


def recommendation_table(advice: Recommendation, mirror: str, placement: Placement) -> Table:
    """What we would do here."""
    table = _table("\nRecommended", ("", ""))
    colour = "[yellow]" if advice.torch.loud else ""
    table.add_row("torch build", f"{colour}{advice.torch.build.id} ({escape(advice.torch.reason)})")
    table.add_row("mirror", escape(mirror))
    data, cache = placement.home.data, placement.home.cache
    places = f"{data}" if data in cache.parents else f"{data} and {cache}"
    table.add_row("files in", escape(f"{places} ({placement.reason})"))
    tier = advice.tier
    settings = f"{tier.size}p, {tier.frames} frames, {tier.steps} steps, {tier.fps} fps, guidance {tier.guidance:g}"
    table.add_row("model tier", escape(f"{tier.name}: {settings} ({advice.reason})"))
    return table


def plan_table(plan: Plan) -> Table:
    """The steps of a plan."""
    table = _table("Plan", ("step", "what"))
    for step in plan.steps:
        table.add_row(step.title, escape(step.detail))
    return table


def image_table(steps: Sequence[PlannedStep]) -> Table:
    """What an image will be made of."""
    table = _table("Image", ("step", "what"))
    for step in steps:
        table.add_row(step.title, escape(step.detail))
    return table


def verified_table(verified: Verified) -> Table:
    """What an image claims, and what was found; digests that hold are shortened, others are shown whole."""
    table = _table("Image", ("", "what", "claimed", "found"))
    for row in verified.rows:
        mark = "[green]holds[/green]" if row.holds else "[red]wrong[/red]"
        told = (_DIGEST.sub(r"\1…", text) if row.holds else text for text in (row.claimed, row.found))
        table.add_row(mark, escape(row.what), *map(escape, told))
    return table


def image_done(spec: ImageSpec, destination: Destination) -> str:
    """What was made, and what to do with it."""
    if destination.local:
        start = f"; start it with `i2v-setup run --docker {spec.tag}`" if spec.weights != "volume" else ""
        return f"built: {spec.tag}{start}"
    return "built: " + ", ".join(str(place) for place in (destination.push, destination.output) if place)


def catalogue_table(mirrors: Sequence[Mirror], *, for_terminal: bool = True) -> Table:
    """The known mirrors. Elsewhere than on a terminal a URL stays on one line, where programs look for it."""
    table = _table("Mirrors", ("kind", "id", "name", "region", "url", "notes"))
    shown_urls = [shown(mirror.url) for mirror in mirrors]
    if not for_terminal:
        table.columns[4].width = min(max(map(len, shown_urls), default=0), _URL)
    for mirror, url in zip(mirrors, shown_urls, strict=True):
        name, notes = escape(mirror.name), f"[dim]{escape(mirror.notes)}[/dim]"
        table.add_row(mirror.kind, escape(mirror.id), name, mirror.region, escape(url), notes)
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=any(columns), pad_edge=False, box=None
    )
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in {"latency", "rate", "how many", "room", "size"} else "left",
            overflow="fold",
        )
    return table
