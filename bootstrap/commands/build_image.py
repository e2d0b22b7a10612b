"""The build-image command."""

from __future__ import annotations

from typing import Any

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, mirror_option, torch_option


@click.command(
    "build-image",
    epilog=examples("i2v-setup build-image --model demo --tag i2v-demo", "i2v-setup build-image --dry-run"),
)
@click.option("--model", default="demo", show_default=True, metavar="ID")
@click.option("--tag", metavar="NAME[:TAG]", help="By default i2v-MODEL:latest.")
@click.option("--base-image", metavar="IMAGE", help="The Python image to build on.")
@torch_option
@mirror_option
@click.option("--dry-run", is_flag=True, help="Show what would be built.")
@json_option
@click.pass_context
def build_image(ctx: click.Context, /, dry_run: bool, as_json: bool, **wanted: Any) -> None:
    """Build a Docker image with the runtime and the model's weights in it."""
    from bootstrap import build_image as command
    from bootstrap import present
    from bootstrap.reporting import tables

    console = console_of(ctx)
    prepared = command.prepare(command.Request(**wanted), home(), console, keep=not dry_run)
    if dry_run:
        if as_json:
            console.data(prepared.steps)
        else:
            console.table(present.image_table(prepared.steps))
        return
    deployment = command.build(prepared, home(), console)
    if as_json:
        console.data(deployment)
    else:
        console.show(tables.deployment(deployment))
        console.say(
            f"built: {prepared.spec.tag}; start it with `i2v-setup run --docker {prepared.spec.tag}`", "bold green"
        )
