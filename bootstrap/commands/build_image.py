"""The build-image command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bootstrap.commands.shared import FAILED, console_of, examples, home, json_option, mirror_option, torch_option
from bootstrap.terminal import harmless


@click.command(
    "build-image",
    epilog=examples(
        "i2v-setup build-image --model demo --tag i2v-demo",
        "i2v-setup build-image --push registry.example/i2v:1",
        "i2v-setup build-image --push registry.example/i2v:1 --deploy-files deploy",
        "i2v-setup build-image --weights volume -o weights.tar",
        "i2v-setup build-image --on registry.example/i2v-slim:1 --push registry.example/i2v:1",
        "i2v-setup build-image --dry-run",
        "i2v-setup build-image --verify registry.example/i2v:1",
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
@click.option(
    "--on",
    metavar="REF|PATH",
    help="Build nothing: put the weights into an image that --weights mounted made, on a registry or on disk. "
    "With --push or -o this needs no engine.",
)
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
@click.option(
    "--deploy-files",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the files for Docker Compose and Kubernetes that deploy it there; with --dry-run, them alone.",
)
@click.option(
    "--weights-image",
    metavar="REF",
    help="For those files, with --weights mounted: the image of the weights alone that is mounted.",
)
@torch_option
@mirror_option
@click.option("--dry-run", is_flag=True, help="Show what would be built.")
@click.option(
    "--verify",
    metavar="TAG|REF|PATH",
    help="Build nothing: read an image of the engine, a registry or a disk, and see whether it is what it claims.",
)
@json_option
@click.pass_context
def build_image(ctx: click.Context, /, dry_run: bool, verify: str | None, as_json: bool, **wanted: Any) -> None:
    """Build a Docker image with the runtime and the model's weights in it."""
    if verify is not None:
        _verify(ctx, verify, as_json=as_json)
        return
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
        command.write_files(prepared, home(), console)
        return
    deployment = command.build(prepared, home(), console)
    if as_json:
        console.data(deployment)
    else:
        console.show(tables.deployment(deployment))
        console.say(present.image_done(prepared.spec, prepared.destination), "bold green")


def _verify(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Verify an image, and show what was found; the exit code is 1 if something does not hold."""
    from bootstrap import present, verify_image
    from bootstrap.errors import UsageProblem

    others = [
        option.opts[-1]
        for option in ctx.command.params
        if option.name not in ("verify", "as_json")
        and ctx.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
    ]
    if others:
        raise UsageProblem(f"--verify builds nothing, so it does not go with {', '.join(others)}", "leave them out")
    console = console_of(ctx)
    found = verify_image.verify(name, home(), console)
    if as_json:
        console.data(found)
    else:
        console.table(present.verified_table(found))
    if found.ok:
        console.say(f"{name} is what it claims", "bold green")
        return
    click.secho(harmless(f"error: {verify_image.told(name, found)}"), fg="red", err=True)
    click.echo("hint: do not use it; build it anew, or fetch it again from where it was whole", err=True)
    ctx.exit(FAILED)
