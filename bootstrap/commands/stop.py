"""The stop command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import console_of, examples, home


@click.command(epilog=examples("i2v-setup stop", "i2v-setup stop --port 9000", "i2v-setup stop --at-once"))
@click.option("--port", type=click.IntRange(1, 65535), help="The server on this port; needed where several run.")
@click.option("--at-once", is_flag=True, help="Do not wait for the job that is made: it goes back to the queue.")
@click.pass_context
def stop(ctx: click.Context, port: int | None, at_once: bool) -> None:
    """Stop the server that `run` started, and remove what a killed one left; exit code 0 where none runs."""
    from bootstrap import stop as command

    command.stop(home(), console_of(ctx), port, at_once=at_once)
