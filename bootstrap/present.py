"""How results look: tables for a terminal and one HTML page. Knows how to draw, not how to find out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from bootstrap.machine import Machine
from bootstrap.plan import Plan
from bootstrap.recommend import Recommendation
from bootstrap.report import Deployment, Section
from images.spec import PlannedStep
from mirrors.catalogue import Mirror
from mirrors.probe import Measurement
from mirrors.urls import redact, shown

if TYPE_CHECKING:
    from bootstrap.clean import Leftover
    from bootstrap.detect import Detected

_BAR = 30  # characters
_URL = 100  # characters: a longer one is folded everywhere, lest nothing is left for the other columns


def size(count: float | None) -> str:
    """Bytes for people, in powers of 1000."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def seconds(value: float) -> str:
    """Seconds for people."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def detection_tables(found: Detected) -> Iterator[Table]:
    """What the machine is, the mirrors as seen from it, and what we would do here."""
    yield machine_table(found.machine)
    if found.measurements:
        yield mirrors_table(found.measurements, found.mirror)
    yield recommendation_table(found.advice, found.mirror_reason)


def machine_table(machine: Machine) -> Table:
    """What the machine is."""
    table = _table("This machine", ("", ""))
    table.add_row(
        "system", f"{machine.release}, {machine.arch}" + (f", in {machine.container}" if machine.container else "")
    )
    table.add_row("Python", f"{machine.python} ({machine.python_path})")
    table.add_row("CPU", f"{machine.cpu}, {machine.cores} cores")
    table.add_row("memory", f"{size(machine.memory)}, {size(machine.memory_free)} free")
    for gpu in machine.gpus:
        capability = ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else "unknown"
        free = f", {size(gpu.free)} free" if gpu.free is not None else ""
        table.add_row("GPU", f"{gpu.name}, {size(gpu.memory)}{free}, compute capability {capability}")
    if not machine.gpus:
        table.add_row("GPU", "none found")
    if machine.graphics.driver:
        table.add_row("driver", f"{machine.graphics.driver}, CUDA up to {machine.graphics.cuda or 'unknown'}")
    for disk in machine.disks:
        table.add_row(
            "disk", f"{disk.mount}: {disk.kind}, {disk.filesystem}, {size(disk.free)} free of {size(disk.total)}"
        )
    for tool in machine.tools:
        found = ", ".join(filter(None, (tool.version, tool.note))) or tool.path or ""
        table.add_row(tool.name, found if tool.found else "[dim]not found[/dim]")
    for name, value in machine.proxies:
        table.add_row(name, value)
    for key, value in pip_rows(machine):
        table.add_row(f"pip {key}", escape(value))
    return table


def pip_rows(machine: Machine) -> list[tuple[str, str]]:
    """The pip settings in force, without credentials."""
    pip = machine.pip
    rows = [("index-url", shown(pip.index_url))] if pip.index_url else []
    rows += [("extra-index-url", shown(url)) for url in pip.extra_index_urls]
    rows += [("find-links", shown(link)) for link in pip.find_links]
    rows += [(name, redact(value)) for name, value in (("cert", pip.cert), ("proxy", pip.proxy)) if value]
    return rows + [("trusted-host", f"{host} (never handed on)") for host in pip.trusted_hosts]


def mirrors_table(measurements: Sequence[Measurement], chosen: str | None) -> Table:
    """Each measured mirror with its verdict."""
    table = _table("Package mirrors", ("mirror", "latency", "rate", "verdict"))
    for m in sorted(measurements, key=lambda m: (m.verdict != "good", -(m.rate or 0), m.latency or 1e9)):
        latency = f"{m.latency * 1000:.0f} ms" if m.latency is not None else ""
        rate = f"{size(m.rate)}/s" if m.rate else ""
        colour = "green" if m.verdict == "good" else "red"
        mark = " ←" if m.mirror.id == chosen else ""
        table.add_row(m.mirror.id + mark, latency, rate, f"[{colour}]{m.verdict}[/{colour}]: {escape(m.reason)}")
    return table


def verdicts_table(measurements: Sequence[Measurement]) -> Table:
    """Each measured mirror with its verdict and the reason for it, the best first."""
    table = _table("Measured from here", ("mirror", "verdict", "latency", "rate", "reason"))
    for m in sorted(measurements, key=lambda m: (m.verdict != "good", -(m.rate or 0), m.latency or 1e9)):
        latency = f"{m.latency * 1000:.0f} ms" if m.latency is not None else ""
        rate = f"{size(m.rate)}/s" if m.rate else ""
        colour = "green" if m.verdict == "good" else "red"
        table.add_row(escape(m.mirror.id), f"[{colour}]{m.verdict}[/{colour}]", latency, rate, escape(m.reason))
    return table


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


def recommendation_table(advice: Recommendation, mirror: str) -> Table:
    """What we would do here."""
    table = _table("Recommended", ("", ""))
    colour = "[yellow]" if advice.torch.loud else ""
    table.add_row("torch build", f"{colour}{advice.torch.build.id} ({advice.torch.reason})")
    table.add_row("mirror", escape(mirror))
    tier = advice.tier
    settings = f"{tier.size}p, {tier.frames} frames, {tier.steps} steps, {tier.fps} fps, guidance {tier.guidance:g}"
    table.add_row("model tier", f"{tier.name}: {settings} ({advice.reason})")
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


def report_table(deployment: Deployment) -> Group:
    """Where the time went: one table for each section, with a bar for each phase placed within it."""
    return Group(f"[bold]Deployment {deployment.id}[/bold]", *map(_section_table, deployment.sections))


def _section_table(section: Section) -> Table:
    facts = ", ".join(f"{key} {value}" for key, value in section.facts.items())
    title = f"\n{section.kind}: {seconds(section.seconds)}[not bold dim]  {escape(facts)}[/]"
    table = _table(title, ("phase", "seconds", "bytes", "from", "when"))
    for timing in section.timings:
        indent = "    " if "." in timing.phase else "  "
        bar = _bar(section, timing.started, timing.seconds)
        moved = size(timing.bytes)
        table.add_row(indent + timing.title, seconds(timing.seconds), moved, escape(timing.source or ""), bar)
    return table


def _bar(section: Section, started: float, length: float) -> str:
    scale = _BAR / max(section.seconds, 1e-9)
    before = min(int(started * scale), _BAR - 1)
    return "·" * before + "█" * max(1, min(round(length * scale), _BAR - before))


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=any(columns), pad_edge=False, box=None
    )
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in {"seconds", "bytes", "latency", "rate", "how many", "room"} else "left",
            overflow="crop" if name == "when" else "fold",
            no_wrap=name == "when",
        )
    return table
