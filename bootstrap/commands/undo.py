"""The undo command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import FAILED, console_of, examples, home, json_option


@click.command(epilog=examples("i2v-setup undo"))
@json_option
@click.pass_context
def undo(ctx: click.Context, as_json: bool) -> None:
    """Give files that are not ours the very bytes back that they had before."""
    from bootstrap import configs

    console = console_of(ctx)
    undone = configs.undo(home().journal)
    if as_json:
        console.data(undone)
    elif not undone:
        console.say("nothing to undo: no file outside our own directories was written")
    else:
        for file in undone:
            console.say(str(file))
        if any(file.path.suffix == ".service" for file in undone):
            console.say("next: systemctl daemon-reload (with --user for a unit of yours)")
    if any(file.outcome == "changed-since" for file in undone):
        ctx.exit(FAILED)
