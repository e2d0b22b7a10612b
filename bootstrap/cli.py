"""The command line: the group of all commands, and the one place where errors become a line, a hint and an exit code.

The commands themselves are in `bootstrap.commands`.
"""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from typing import Any, NoReturn

import click

from bootstrap import startup
from bootstrap.commands.build_image import build_image
from bootstrap.commands.bundle import bundle
from bootstrap.commands.clean import clean
from bootstrap.commands.detect import detect
from bootstrap.commands.env import env
from bootstrap.commands.generate import generate
from bootstrap.commands.install import install
from bootstrap.commands.logs import logs
from bootstrap.commands.mirrors import mirrors
from bootstrap.commands.models import models
from bootstrap.commands.report import report
from bootstrap.commands.run import run
from bootstrap.commands.shared import FAILED, Group, examples, is_json_wanted
from bootstrap.commands.status import status
from bootstrap.commands.stop import stop
from bootstrap.commands.undo import undo
from bootstrap.terminal import harmless

DONE, WRONG_USAGE, INTERRUPTED = 0, 2, 130


class Commands(Group):
    """The group, with the one place where errors become a line, a hint and an exit code."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that this process was started for; one that is called with arguments is a guest in it."""
        if not args and not kwargs:
            startup.own_process()
        return super().__call__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors end it without a traceback; SIGTERM and a lost terminal end it as Ctrl-C does."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        for number, handler in handlers.items():
            if handler != signal.SIG_IGN:  # nohup wants a lost terminal ignored
                signal.signal(number, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            _tell_json(ctx, error.format_message(), "")
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            _tell_json(ctx, "interrupted", "")
            ctx.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the one place where errors end
            _end(ctx, error)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _tell_json(ctx: click.Context, error: str, hint: str) -> None:
    """Whoever asked for a JSON document gets one, of an error too."""
    if is_json_wanted(ctx):
        with suppress(OSError):  # nobody reads it, or there is no room for it: the error itself is told already
            click.echo(json.dumps({"error": error, "hint": hint}, indent=2))


def _end(ctx: click.Context, error: Exception) -> NoReturn:
    from bootstrap.errors import UsageProblem
    from mirrors.errors import BadMirror, UnknownMirror
    from runtime.bounds import InvalidOption
    from runtime.models import UnknownModel

    hint = getattr(error, "hint", None)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        hint = "see to its place and its rights; I2V_SETUP_HOME moves what is ours"
        reason = error.strerror or str(error)
        error = OSError(f"{error.filename}: {reason}" if error.filename else reason)
    if hint is None:  # not of the family: a defect of ours, which we need to see whole
        raise error
    click.secho(harmless(f"error: {error}"), fg="red", err=True)
    if hint:
        click.echo(harmless(f"hint: {hint}"), err=True)
    _tell_json(ctx, str(error), hint)
    usage = isinstance(error, (UsageProblem, UnknownModel, UnknownMirror, BadMirror, InvalidOption))
    ctx.exit(WRONG_USAGE if usage else FAILED)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"i2v-setup {version('i2v-setup')}")
        ctx.exit(DONE)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "i2v-setup detect",
        "i2v-setup install --model demo --mirror auto",
        "i2v-setup generate photo.jpg -o video.mp4",
        "i2v-setup run",
    ),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.pass_context
def main(ctx: click.Context, quiet: bool) -> None:
    """From a bare machine to the first frame of image-to-video, timed."""
    ctx.obj = quiet


for command in (
    *(
        detect,
        install,
        generate,
        run,
        status,
        logs,
        stop,
        build_image,
        report,
        env,
        bundle,
        models,
        mirrors,
        undo,
        clean,
    ),
):
    main.add_command(command)


if __name__ == "__main__":
    main()
