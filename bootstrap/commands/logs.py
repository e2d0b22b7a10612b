"""The logs command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import examples, home, json_lines_option


@click.command(epilog=examples("i2v-setup logs", "i2v-setup logs -f", "i2v-setup logs --summary > summary.txt"))
@click.option("-f", "--follow", is_flag=True, help="Show what comes too, until Ctrl-C.")
@click.option(
    *("-n", "--lines"), "count", default=50, show_default=True, type=click.IntRange(0), help="The last so many lines."
)
@click.option("--summary", "summed_up", is_flag=True, help="What to paste into a bug report; no keys, no prompts.")
@json_lines_option
@click.pass_context
def logs(ctx: click.Context, follow: bool, count: int, summed_up: bool, as_json: bool) -> None:
    """Show the server's log, or sum up what it is and what went wrong last."""
    from bootstrap import server_log
    from bootstrap.terminal import harmless
    from runtime.logs import readable

    if not summed_up:
        for line in server_log.lines(home(), count, follow=follow):
            click.echo(line if as_json else harmless(readable(line)))
    elif follow or as_json or ctx.get_parameter_source("count") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--summary goes alone")
    else:
        click.echo(harmless(server_log.summed_up(home())), nl=False)
