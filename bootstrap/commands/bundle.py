"""The bundle command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, mirror_option, torch_option


@click.command(
    epilog=examples(
        "i2v-setup bundle --model demo /media/usb/i2v",
        "pip install --no-index --find-links /media/usb/i2v/tool i2v-setup      (on the other machine)",
        "i2v-setup install --bundle /media/usb/i2v                             (there too)",
    )
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", metavar="ID", help="The model; by default demo.")
@torch_option
@click.option("--python", metavar="VERSION", help="The environment's Python; by default the one that runs this tool.")
@click.option(
    "--requirements",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Your own lock in place of ours: requirements.txt with hashes, or pylock.toml.",
)
@mirror_option
@click.option("--offline", is_flag=True, help="Ask nobody: everything has to be on this machine. Goes with --no-tool.")
@click.option("--no-tool", is_flag=True, help="Leave this tool's own packages out.")
@json_option
@click.pass_context
def bundle(ctx: click.Context, /, directory: Path, no_tool: bool, as_json: bool, **wanted: Any) -> None:
    """Write all that an installation needs into DIRECTORY, for a machine without a network.

    One that was interrupted is gone on with. There, `i2v-setup install --bundle DIRECTORY` checks every byte again.
    """
    from bootstrap import bundle as command
    from bootstrap import units
    from bootstrap.request import Request

    console = console_of(ctx)
    if wanted["offline"] and not no_tool:
        raise click.UsageError("--offline needs --no-tool: the tool's own packages are fetched from an index")
    written = command.write(Request(**wanted), directory, home(), console, with_tool=not no_tool)
    if as_json:
        console.data(command.as_document(written))
        return
    console.say(f"written: {written.directory}, {written.files} files, {units.size(written.bytes)}", "bold green")
    console.say(f"for {written.build}, Python {written.python} (which has to be on the other machine), {written.model}")
    console.say(f"sha256 of its manifest: {written.sha256}")
