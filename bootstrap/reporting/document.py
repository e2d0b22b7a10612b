"""What all HTML reports have in common: one self-contained document, no network, no script; light and dark."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from bootstrap.errors import SetupError
from bootstrap.reporting.words import Language

NOTHING = "\N{EN DASH}"  # in a table, where there is no value


def html(title: str, body: str, lang: Language) -> str:
    """The document. `body` is HTML, `title` is not."""
    style = files("bootstrap.reporting").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if lang == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def write(text: str, path: Path) -> None:
    """Write a report to a file.

    Raises:
        SetupError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8", errors="replace")  # a file's name may be no text
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "choose another place") from error


def table(names: tuple[tuple[str, str], ...], lines: list[list[str]]) -> str:
    """A table: `names` are the headings with the classes of their columns, `lines` cells in HTML."""
    head = "".join(f'<th class="{kind}">{escape(name)}</th>' for name, kind in names)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{cell}</td>' for (_, kind), cell in zip(names, line, strict=True))
        + "</tr>"
        for line in lines
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(found: dict[str, str]) -> str:
    """Small facts in a row."""
    told = (f"<li><span>{escape(name)}</span> {escape(value)}</li>" for name, value in found.items())
    return f'<ul class="facts">{"".join(told)}</ul>'
