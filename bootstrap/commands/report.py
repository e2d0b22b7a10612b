"""The report command."""

from __future__ import annotations

from pathlib import Path

import click

from bootstrap.commands.shared import console_of, examples, home, json_option

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog=examples(
        "i2v-setup report",
        "i2v-setup report --html report.html --lang zh",
        "i2v-setup report --compare previous last",
        "i2v-setup report 20260102T03 --trace trace.json",
    )
)
@click.argument("which", metavar="[ID]", required=False)
@click.option("--list", "listed", is_flag=True, help="The deployments that are kept.")
@click.option("--compare", nargs=2, metavar="A B", help="Two deployments side by side.")
@click.option("--html", type=_FILE, help="Write one self-contained page.")
@click.option("--trace", type=_FILE, help="Write a trace that ui.perfetto.dev opens.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="English or Chinese; by default as your locale says.")
@json_option
@click.pass_context
def report(  # noqa: PLR0913 - an option each
    ctx: click.Context,
    /,
    *,
    which: str | None,
    listed: bool,
    compare: tuple[str, str] | None,
    html: Path | None,
    trace: Path | None,
    lang: str | None,
    as_json: bool,
) -> None:
    """Where the time of a deployment went: of the last one, or of that with this ID.

    An ID may be cut short, and "last" and "previous" are IDs too.
    """
    from bootstrap.reporting import document, shown, words

    if listed and (which or compare or html or trace):
        raise click.UsageError("--list goes with --json and --lang only")
    if compare and (which or trace):
        raise click.UsageError("--compare goes with --html, --json and --lang only")
    console, place, language = console_of(ctx), home(), words.language(lang)
    if listed:
        kept = shown.kept(place)
        console.data(kept.data()) if as_json else console.table(kept.table(language))
        return
    found = shown.two(place, *compare) if compare else shown.one(place, which or "last")
    if html is not None:
        document.write(found.html(language), html)
        console.say(f"written: {html}")
    if trace is not None and isinstance(found, shown.One):
        document.write(found.trace(language), trace)
        console.say(f"written: {trace}; ui.perfetto.dev opens it")
    if as_json:
        console.data(found.data())
    elif html is None and trace is None:
        console.table(found.table(language))
