"""The detect command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import console_of, examples, home, json_option


@click.command(epilog=examples("i2v-setup detect", "i2v-setup detect --json --offline"))
@json_option
@click.option("--offline", is_flag=True, help="Measure no mirrors.")
@click.pass_context
def detect(ctx: click.Context, as_json: bool, offline: bool) -> None:
    """What this machine is, which mirrors are good from here, and what will run well."""
    from bootstrap import detect as command
    from bootstrap import present

    console = console_of(ctx)
    found = command.detect(home(), offline=offline, console=console)
    if as_json:
        console.data(command.as_document(found))
        return
    for table in present.detection_tables(found):
        console.table(table)
