"""The install command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, mirror_option, torch_option, yes_option


@click.command(
    epilog=examples(
        "i2v-setup install --model demo --mirror auto",
        "i2v-setup install --model demo --mirror tuna --dry-run",
    )
)
@mirror_option
@click.option("--model", metavar="ID", help="The model whose weights are fetched; by default demo.")
@torch_option
@click.option("--python", metavar="VERSION", help="The environment's Python; by default the one that runs this tool.")
@click.option(
    "--backend",
    default="uv",
    show_default=True,
    metavar="NAME",
    help="What builds the environment: uv, or conda-family, mamba, micromamba, conda, rattler.",
)
@click.option(
    "--requirements",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Your own lock in place of ours: requirements.txt with hashes, or pylock.toml.",
)
@click.option(
    "--environment",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What the conda back ends solve: an environment.yml, or a list that pins packages.",
)
@click.option("--no-hashes", is_flag=True, help="Take also packages whose sha256 nobody confirms.")
@click.option("--upgrade", is_flag=True, help="Solve the environment anew (conda back ends).")
@click.option("--offline", is_flag=True, help="Ask nobody: take everything from the store and local directories.")
@click.option(
    "--bundle",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take everything from what `i2v-setup bundle` wrote; implies --offline.",
)
@click.option("--rebuild", is_flag=True, help="Build the environment anew, even if it seems whole.")
@click.option("--verify", is_flag=True, help="Verify the environment and the model again, even if nothing changed.")
@click.option("--dry-run", is_flag=True, help="Show the plan, change nothing.")
@yes_option
@json_option
@click.pass_context
def install(ctx: click.Context, /, dry_run: bool, yes: bool, as_json: bool, no_hashes: bool, **wanted: Any) -> None:
    """Write configs, build the environment, fetch and verify the weights, make it current."""
    from bootstrap import install as command
    from bootstrap import present
    from bootstrap.request import Request

    console = console_of(ctx)
    prepared = command.prepare(Request(hashes=not no_hashes, **wanted), home(), console, keep=not dry_run)
    if as_json and dry_run:
        console.data(command.as_document(prepared))
        return
    for warning in prepared.warnings:
        console.warn(warning)
    with prepared.site.recorder.phase("plan", "make the plan"):
        plan = prepared.plan()
    if plan.steps:
        (console.table if dry_run else console.show)(present.plan_table(plan))
    else:
        console.say(f"nothing to do: {plan.generation.path} is whole and in use", "bold green")
    if dry_run:
        return
    if plan.steps and sys.stdin.isatty() and not yes:
        with prepared.site.recorder.paused():
            click.confirm("Proceed?", default=True, abort=True, err=True)
    deployment = command.install(prepared)
    if as_json:
        console.data(deployment)
    elif plan.steps:
        from bootstrap.reporting import tables

        console.show(tables.deployment(deployment))
        console.say(f"installed: {plan.generation.path}", "bold green")
        console.say("now: i2v-setup generate photo.jpg -o video.mp4, or i2v-setup run")
