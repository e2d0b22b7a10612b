"""The env commands."""

from __future__ import annotations

import sys

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, model_option, yes_option


@click.group(
    epilog=examples(
        "i2v-setup env list",
        "i2v-setup env rollback",
        "i2v-setup env verify",
        "i2v-setup env remove cpu-py311-0123456789ab",
    )
)
def env() -> None:
    """List the environments, go back to an earlier one, verify or remove them."""


@env.command("list", epilog=examples("i2v-setup env list", "i2v-setup env list --json"))
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """Which environments there are, which one is current, and which one `env rollback` goes back to."""
    from bootstrap import environments, present

    console = console_of(ctx)
    found = environments.listed(home())
    if as_json:
        console.data(environments.as_document(found))
    elif found:
        console.table(present.environments_table(found))
    else:
        console.say("nothing is installed yet: i2v-setup install --model demo --mirror auto")


@env.command(epilog=examples("i2v-setup env rollback", "i2v-setup env rollback cpu-py311-0123456789ab"))
@click.argument("name", required=False)
@json_option
@click.pass_context
def rollback(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Make current what was current before, or the environment of that NAME.

    Called again, it goes one further back. What runs goes on in its environment until it is started again.
    """
    from bootstrap import environments

    console = console_of(ctx)
    moved = environments.rollback(home(), name)
    if as_json:
        console.data(moved)
        return
    console.say(f"current: {moved.now.name}", "bold green")
    if moved.before is not None and moved.before.path != moved.now.path:
        console.say(f"to undo this: i2v-setup env rollback {moved.before.name}")
    for process in moved.processes:
        console.say(f"{process} goes on in the environment that was left, until it is started again")


@env.command(epilog=examples("i2v-setup env verify", "i2v-setup env verify cpu-py311-0123456789ab --model demo"))
@click.argument("name", required=False)
@model_option
@json_option
@click.pass_context
def verify(ctx: click.Context, name: str | None, model: str | None, as_json: bool) -> None:
    """Import everything, read the model's files again, make a tiny video: in the current environment, or in NAME."""
    from bootstrap import environments

    console = console_of(ctx)
    found = environments.verify(home(), name, model, console)
    if as_json:
        console.data(found)
    else:
        console.say(f"whole: {found.name}, with the model {found.model}, {found.seconds:.1f} s", "bold green")


@env.command(epilog=examples("i2v-setup env remove cpu-py311-0123456789ab", "i2v-setup env remove 0123 4567 --yes"))
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@yes_option
@json_option
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove environments, never the current one nor one in which something runs."""
    from bootstrap import environments, units
    from bootstrap.errors import UsageProblem

    console, place = console_of(ctx), home()
    found = ", ".join(one.name for one in environments.removable(place, names))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageProblem(f"to remove {found} needs a yes, and this is no terminal", "add --yes")
        click.confirm(f"Remove {found}?", default=True, abort=True, err=True)
    gone = environments.remove(place, names, console)
    if as_json:
        console.data(gone)
        return
    for removed in gone:
        console.say(f"removed: {removed.name}, which gives back {units.size(removed.room)}", "bold green")
    if gone:
        console.say("packages that uv's cache still has stay there: `uv cache prune` gives back the rest", "dim")
