"""The build-image command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, mirror_option, torch_option


@click.command(
    "build-image",
    epilog=examples(
        "i2v-setup build-image --model demo --tag i2v-demo",
        "i2v-setup build-image --push registry.example/i2v:1",
        "i2v-setup build-image --weights volume -o weights.tar",
        "i2v-setup build-image --dry-run",
    ),
)
@click.option("--model", default="demo", show_default=True, metavar="ID")
@click.option("--tag", metavar="NAME[:TAG]", help="By default i2v-MODEL:latest.")
@click.option("--base-image", metavar="IMAGE", help="The Python image to build on.")
@click.option(
    "--weights",
    type=click.Choice(["baked", "mounted", "volume"]),
    default="baked",
    show_default=True,
    help="In layers of the image, mounted when it runs, or in an image of their own (a Kubernetes image volume).",
)
@click.option("--weights-on-top", is_flag=True, help="Baked weights above all else: for hosts with several models.")
@click.option("--push", metavar="REF", help="Send it to a registry instead of the local engine; login: `docker login`.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write it as an OCI layout instead: a directory, or one file if it ends in .tar.",
)
@click.option(
    "--pull-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1000.0,
    show_default=True,
    metavar="MBIT",
    help="Mbit/s for the estimate of how long a pull will take.",
)
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
        console.say(present.image_done(prepared.spec, prepared.destination), "bold green")
