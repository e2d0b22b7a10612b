"""The status command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import console_of, examples, home, json_option

NOT_RUNNING = 3  # the exit code, as systemctl has it


@click.command(epilog=examples("i2v-setup status", "i2v-setup status --json"))
@click.option("--port", type=click.IntRange(1, 65535), help="Of the server on this port; else the one started last.")
@json_option
@click.pass_context
def status(ctx: click.Context, port: int | None, as_json: bool) -> None:
    """Whether a server runs, what it is at, how long its queue is; exit code 3 where none runs."""
    from bootstrap import present, server_status

    console = console_of(ctx)
    found = server_status.status(home(), port)
    if as_json:
        console.data(found)
    else:
        console.table(present.status_table(server_status.rows(found)))
    if not found.running:
        ctx.exit(NOT_RUNNING)
