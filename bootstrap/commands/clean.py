"""The clean command."""

from __future__ import annotations

import sys

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, yes_option


@click.command(epilog=examples("i2v-setup clean --dry-run", "i2v-setup clean --older-than 30d"))
@click.option("--older-than", metavar="30d", help="Only what was not used for so long (s, m, h, d, w).")
@click.option("--dry-run", is_flag=True, help="Show what would go, remove nothing.")
@yes_option
@json_option
@click.pass_context
def clean(ctx: click.Context, older_than: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Give back the room of fetched files and left-overs that nothing uses."""
    from bootstrap import clean as command
    from bootstrap import leftovers, present, units
    from bootstrap.errors import UsageProblem

    console, place = console_of(ctx), home()
    found = command.find(place, None if older_than is None else command.seconds(older_than))
    room = sum(leftover.size for leftover in found)
    if found and not as_json:
        (console.table if dry_run else console.show)(present.leftovers_table(found))
    if found and not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise UsageProblem(f"to remove {units.size(room)} needs a yes, and this is no terminal", "add --yes")
            click.confirm(f"Remove them ({units.size(room)})?", default=True, abort=True, err=True)
        with console.working("remove", float(room)) as task:
            found = command.remove(place, found, lambda leftover: task.advance(leftover.size))
        console.say(f"removed: {units.size(sum(leftover.size for leftover in found))}", "bold green")
    elif not found:
        recently = "more recently than that" if older_than else f"in the last {leftovers.RECENT / 60:.0f} minutes"
        console.say(f"nothing to remove: all that is here is in use, or was used {recently}")
    if as_json:
        console.data(found)
