"""The mirrors commands."""

from __future__ import annotations

import click

from bootstrap.commands.shared import FAILED, Group, console_of, examples, home, json_option


@click.group(
    cls=Group,
    invoke_without_command=True,
    epilog=examples(
        "i2v-setup mirrors --kind conda",
        "i2v-setup mirrors test",
        "i2v-setup mirrors use tuna --scope user",
    ),
)
@click.option("--kind", metavar="KIND", help="pypi, pytorch, conda, docker, hub, apt or python; by default all.")
@json_option
@click.pass_context
def mirrors(ctx: click.Context, kind: str | None, as_json: bool) -> None:
    """List the known mirrors, measure them, or use one."""
    if ctx.invoked_subcommand is not None:
        if kind is not None or as_json:
            raise click.UsageError(f"--kind and --json go behind the command: mirrors {ctx.invoked_subcommand} …")
        return
    from bootstrap import mirror_commands, present

    console = console_of(ctx)
    known = mirror_commands.known(home(), kind)
    if as_json:
        console.data(mirror_commands.as_document(known))
    else:
        console.table(present.catalogue_table(known, for_terminal=console.out.is_terminal))


_kind = click.option("--kind", default="pypi", show_default=True, metavar="KIND", help="What the mirrors serve.")


@mirrors.command(
    epilog=examples("i2v-setup mirrors test", "i2v-setup mirrors test --kind conda", "i2v-setup mirrors test tuna ustc")
)
@_kind
@json_option
@click.argument("named", nargs=-1, metavar="[ID|URL]...")
@click.pass_context
def test(ctx: click.Context, kind: str, as_json: bool, named: tuple[str, ...]) -> None:
    """Measure mirrors from here, and say what each can do and why; by default all of a kind.

    The exit code is 1 if none of those that were named is usable.
    """
    from bootstrap import mirror_commands, present

    console = console_of(ctx)
    found = mirror_commands.test(home(), kind, named, console)
    if as_json:
        console.data(mirror_commands.measured(found))
    else:
        console.table(present.verdicts_table(found))
    if named and all(measurement.verdict != "good" for measurement in found):
        ctx.exit(FAILED)


@mirrors.command(
    epilog=examples(
        "i2v-setup mirrors use auto",
        "i2v-setup mirrors use tuna --scope user --dry-run",
        "i2v-setup mirrors use auto --kind conda --scope user",
    )
)
@click.argument("which", metavar="auto|ID|URL|upstream")
@click.option("--kind", default="pypi", show_default=True, metavar="pypi|pytorch|conda", help="What the mirror serves.")
@click.option("--scope", type=click.Choice(["env", "user"]), default="env", show_default=True, help="Whose files.")
@click.option("--dry-run", is_flag=True, help="Show the difference, write nothing.")
@click.pass_context
def use(ctx: click.Context, which: str, kind: str, scope: str, dry_run: bool) -> None:
    """Write a mirror into the configuration of pip and uv, or of conda and mamba.

    It is measured first, and one that cannot serve is not written. `i2v-setup undo` takes it back.
    """
    from bootstrap import mirror_commands

    console = console_of(ctx)
    for line in mirror_commands.use(home(), which, kind, scope, dry_run=dry_run, console=console):
        console.say(line)
