"""The models command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import console_of, examples, home, json_option


@click.command(epilog=examples("i2v-setup models", "i2v-setup install --model svd-xt"))
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models: licence, size, what is known of their files, and which are installed."""
    from bootstrap import model_list, present

    console = console_of(ctx)
    offered = model_list.offered(home())
    if as_json:
        console.data(offered)
    else:
        console.table(present.models_table(offered))
