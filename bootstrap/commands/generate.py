"""The generate command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from bootstrap.commands.shared import console_of, examples, home, json_option, model_option, precision_option
from runtime import formats
from runtime.options import PRESETS


@click.command(
    epilog=examples(
        "i2v-setup generate photo.jpg -o video.mp4",
        'i2v-setup generate photo.jpg -o video.mp4 --preset preview --prompt "clouds drift" --seed 7',
        "i2v-setup generate photo.jpg -o video.gif --seed 7",
    )
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    *("-o", "--out"),
    required=True,
    type=click.Path(path_type=Path),
    help=f"The video. Its suffix decides the format: {formats.in_words()}.",
)
@model_option
@click.option("--preset", default="standard", show_default=True, metavar="NAME", help=f"One of {', '.join(PRESETS)}.")
@click.option("--prompt", help="What should happen in the video.")
@click.option("--negative-prompt", help="What should not.")
@click.option("--size", metavar="WxH", help="By default the picture's shape at the preset's area.")
@click.option("--frames", "num_frames", type=int, help="How many frames.")
@click.option("--steps", "num_inference_steps", type=int, help="How many denoising steps.")
@click.option("--guidance", "guidance_scale", type=float, help="Guidance scale.")
@click.option("--fps", type=int, help="Frames per second.")
@click.option("--seed", type=int, help="The same seed gives the same video.")
@click.option("--fast", is_flag=True, default=None, help="A little less exact, in less time.")
@precision_option
@json_option
@click.pass_context
def generate(
    ctx: click.Context,
    /,
    image: Path,
    out: Path,
    model: str | None,
    precision: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make one video from one picture; no server needed."""
    from bootstrap import generate as command
    from runtime.bounds import InvalidOption

    console = console_of(ctx)
    try:
        made = command.generate(home(), image, out, model, settings, console, precision)
    except InvalidOption as error:
        raise InvalidOption(as_typed(ctx, str(error)), as_typed(ctx, error.hint)) from error
    if as_json:
        console.data(made)
    else:
        console.say(made.summary, "bold green")


def as_typed(ctx: click.Context, text: str) -> str:
    """A message in which a setting is called what the person typed, not what the server's API calls it."""
    for parameter in ctx.command.params:
        if parameter.name and "_" in parameter.name:
            text = re.sub(rf"\b{parameter.name}\b", parameter.opts[-1], text)
    return text
