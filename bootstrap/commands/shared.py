"""What the commands have in common: options, the voice, the home, how a group lists its commands."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, get_args

import click

from runtime.models import Arithmetic

if TYPE_CHECKING:
    from bootstrap.console import Console
    from bootstrap.state import Home

FAILED = 1  # the exit code

_JSON = "bootstrap.json"  # in click's `meta`, which all contexts of one call share
_LONGEST = 500  # characters of a command's line in a group's help: all of it


def _note_json(ctx: click.Context, _: click.Parameter, wanted: bool) -> bool:
    ctx.meta[_JSON] = wanted
    return wanted


def is_json_wanted(ctx: click.Context) -> bool:
    """Whether the command that runs, or ran, was asked for JSON."""
    return bool(ctx.meta.get(_JSON))


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,  # before the others, so that what is wrong with them is told as JSON too
    callback=_note_json,
    help="One JSON document on stdout.",
)
json_lines_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_note_json,
    help="The lines as they are kept, one JSON object each.",
)
mirror_option = click.option(
    "--mirror", default="auto", show_default=True, metavar="auto|ID|URL|upstream", help="Where the packages come from."
)
model_option = click.option("--model", metavar="ID", help="The model; by default the one deployed last.")
precision_option = click.option(
    "--precision",
    type=click.Choice(get_args(Arithmetic)),
    help="What the model is computed in; by default what suits it and the device.",
)
torch_option = click.option(
    "--torch", default="auto", show_default=True, metavar="auto|BUILD", help="The build of PyTorch."
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


class Group(click.Group):
    """A group whose help has its commands as they are written down, each with the whole of its first sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands' part of the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(_LONGEST)) for name in self.commands])


def examples(*lines: str) -> str:
    """A command's epilog."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def console_of(ctx: click.Context) -> Console:
    """The voice of the command that runs."""
    from bootstrap.console import Console

    return Console(quiet=ctx.obj)


def home() -> Home:
    """Where the tool keeps its things; an edit of the user's files that a kill interrupted is taken back first."""
    from bootstrap import configs, state
    from bootstrap.errors import SetupError

    found = state.home()
    if found.journal.exists():
        with suppress(SetupError):  # a home that cannot be written is told by the commands that write
            configs.recover(found.journal)
    return found
