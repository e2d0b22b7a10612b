"""The timing report as one self-contained HTML page with a waterfall. No network, no script; light and dark."""

from __future__ import annotations

from html import escape
from pathlib import Path

from bootstrap.errors import SetupError
from bootstrap.present import seconds, size
from bootstrap.report import Deployment, Section, Timing

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6b7c; --line: #d9e0e8; --paper: #fbfcfd;
  --bar: #2f6fb5; --part: #8fb4da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf1; --dim: #98a6b6; --line: #2d3743; --paper: #12171d; --bar: #5b9be0; --part: #34577d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, "Noto Sans SC", "PingFang SC", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .2rem; }
p { margin: .2rem 0; color: var(--dim); overflow-wrap: anywhere; }
ol { list-style: none; margin: .8rem 0 0; padding: 0; }
li { display: grid; grid-template-columns: 15rem 1fr 5rem; gap: .2rem .8rem; align-items: center; padding: .28rem 0;
  border-top: 1px solid var(--line); }
li.part .name { padding-left: 1.2rem; color: var(--dim); }
.name { overflow-wrap: anywhere; } .more { color: var(--dim); font-size: .8rem; display: block; }
.track { height: .9rem; position: relative; }
.bar { position: absolute; top: 0; bottom: 0; min-width: 2px; border-radius: 2px; background: var(--bar); }
li.part .bar { background: var(--part); }
.time { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 40rem) { li { grid-template-columns: 1fr 5rem; } .track { grid-column: 1 / -1; grid-row: 2; } }
"""


def write(deployment: Deployment, path: Path) -> None:
    """Write the page.

    Raises:
        SetupError: the file cannot be written.
    """
    try:
        path.write_text(render(deployment), encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "choose another place") from error


def render(deployment: Deployment) -> str:
    """The page as text."""
    total = sum(section.seconds for section in deployment.sections)
    body = "".join(_section(section) for section in deployment.sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>i2v-setup {escape(deployment.id)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Where the time went: {seconds(total)}</h1><p>deployment {escape(deployment.id)}</p>{body}</body></html>\n"
    )


def _section(section: Section) -> str:
    facts = ", ".join(f"{escape(key)} {escape(value)}" for key, value in section.facts.items())
    rows = "".join(_row(timing, section.seconds) for timing in section.timings)
    title = f"<h2>{escape(section.kind)}: {seconds(section.seconds)}</h2>"
    return f"{title}<p>{escape(section.began)}</p><p>{facts}</p><ol>{rows}</ol>"


def _row(timing: Timing, total: float) -> str:
    scale = 100 / max(total, 1e-9)
    left, width = min(timing.started * scale, 100), min(timing.seconds * scale, 100)
    more = ", ".join(filter(None, (size(timing.bytes), timing.source and f"from {timing.source}")))
    note = f'<span class="more">{escape(more)}</span>' if more else ""
    kind = ' class="part"' if "." in timing.phase else ""
    return (
        f'<li{kind}><span class="name">{escape(timing.title)}{note}</span>'
        f'<span class="track"><span class="bar" style="left:{left:.2f}%;width:{width:.2f}%"></span></span>'
        f'<span class="time">{seconds(timing.seconds)}</span></li>'
    )
