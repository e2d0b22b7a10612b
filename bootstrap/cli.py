"""The command line: parses, calls one function, shows the result. Everything heavy is imported where it is used."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class Commands(click.Group):
    """The group, with the one place where errors become a line, a hint and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors end it without a traceback; SIGTERM and a lost terminal end it as Ctrl-C does."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        for number, handler in handlers.items():
            if handler != signal.SIG_IGN:  # nohup wants a lost terminal ignored
                signal.signal(number, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the one place where errors end
            _end(ctx, error)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _end(ctx: click.Context, error: Exception) -> NoReturn:
    from bootstrap.errors import UsageProblem
    from mirrors.errors import BadMirror, UnknownMirror
    from runtime.models import UnknownModel
    from runtime.options import InvalidOption

    hint = getattr(error, "hint", None)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        hint = "see to its place and its rights; I2V_SETUP_HOME moves what is ours"
        reason = error.strerror or str(error)
        error = OSError(f"{error.filename}: {reason}" if error.filename else reason)
    if hint is None:  # not of the family: a defect of ours, which we need to see whole
        raise error
    click.secho(f"error: {error}", fg="red", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    usage = isinstance(error, (UsageProblem, UnknownModel, UnknownMirror, BadMirror, InvalidOption))
    ctx.exit(WRONG_USAGE if usage else FAILED)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"i2v-setup {version('i2v-setup')}")
        ctx.exit(DONE)


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_examples(
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


def _console(ctx: click.Context) -> Any:
    from bootstrap.console import Console

    return Console(quiet=ctx.obj)


def _home() -> Any:
    from bootstrap import configs
    from bootstrap.errors import SetupError
    from bootstrap.state import home

    found = home()
    if found.journal.exists():
        with suppress(SetupError):  # a home that cannot be written is told by the commands that write
            configs.recover(found.journal)  # what a kill interrupted is taken back before anything else
    return found


_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_mirror = click.option(
    "--mirror", default="auto", show_default=True, metavar="auto|ID|URL|upstream", help="Where the packages come from."
)
_model = click.option("--model", metavar="ID", help="The model; by default the one deployed last.")
_torch = click.option("--torch", default="auto", show_default=True, metavar="auto|BUILD", help="The build of PyTorch.")


@main.command(epilog=_examples("i2v-setup detect", "i2v-setup detect --json --offline"))
@_json
@click.option("--offline", is_flag=True, help="Measure no mirrors.")
@click.pass_context
def detect(ctx: click.Context, as_json: bool, offline: bool) -> None:
    """What this machine is, which mirrors are good from here, and what will run well."""
    from bootstrap import detect as command
    from bootstrap import present

    console = _console(ctx)
    found = command.detect(_home(), offline=offline, console=console)
    if as_json:
        console.data(command.as_document(found))
        return
    for table in present.detection_tables(found):
        console.table(table)


@main.command(
    epilog=_examples(
        "i2v-setup install --model demo --mirror auto",
        "i2v-setup install --model demo --mirror tuna --dry-run",
    )
)
@_mirror
@click.option("--model", default="demo", show_default=True, metavar="ID", help="The model whose weights are fetched.")
@_torch
@click.option("--rebuild", is_flag=True, help="Build the environment anew, even if it seems whole.")
@click.option("--dry-run", is_flag=True, help="Show the plan, change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_json
@click.pass_context
def install(ctx: click.Context, /, dry_run: bool, yes: bool, as_json: bool, **wanted: Any) -> None:
    """Write configs, build the environment, fetch and verify the weights, make it current."""
    from bootstrap import install as command
    from bootstrap import present

    console = _console(ctx)
    prepared = command.prepare(command.Request(**wanted), _home(), console, keep=not dry_run)
    if as_json and dry_run:
        console.data(command.as_document(prepared))
        return
    for warning in prepared.warnings:
        console.warn(warning)
    plan = prepared.plan()
    if plan.steps:
        (console.table if dry_run else console.show)(present.plan_table(plan))
    else:
        console.say(f"nothing to do: {plan.generation.path} is whole and in use", "bold green")
    if dry_run:
        return
    if plan.steps and sys.stdin.isatty() and not yes:
        click.confirm("Proceed?", default=True, abort=True, err=True)
    deployment = command.install(prepared, console)
    if as_json:
        console.data(deployment)
    elif plan.steps:
        console.show(present.report_table(deployment))
        console.say(f"installed: {plan.generation.path}", "bold green")


@main.command(
    epilog=_examples(
        "i2v-setup generate photo.jpg -o video.mp4",
        'i2v-setup generate photo.jpg -o video.mp4 --preset preview --prompt "clouds drift" --seed 7',
    )
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The video, an .mp4 file.")
@_model
@click.option("--preset", default="standard", show_default=True, metavar="NAME", help="standard or preview.")
@click.option("--prompt", help="What should happen in the video.")
@click.option("--negative-prompt", help="What should not.")
@click.option("--size", metavar="WxH", help="By default the picture's shape at the preset's area.")
@click.option("--frames", "num_frames", type=int, help="How many frames.")
@click.option("--steps", "num_inference_steps", type=int, help="How many denoising steps.")
@click.option("--guidance", "guidance_scale", type=float, help="Guidance scale.")
@click.option("--fps", type=int, help="Frames per second.")
@click.option("--seed", type=int, help="The same seed gives the same video.")
@_json
@click.pass_context
def generate(ctx: click.Context, /, image: Path, out: Path, model: str | None, as_json: bool, **settings: Any) -> None:
    """Make one video from one picture; no server needed."""
    from bootstrap import generate as command

    console = _console(ctx)
    made = command.generate(_home(), image, out, model, settings, console)
    if as_json:
        console.data(made)
    else:
        console.say(made.summary, "bold green")


@main.command(
    epilog=_examples("i2v-setup run", "i2v-setup run --port 9000", "i2v-setup run --docker i2v-demo:latest --gpus all")
)
@_model
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Beyond loopback an API key is required (I2V_API_KEY)."
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--docker", "tag", metavar="TAG", help="Serve from this image instead of the local environment.")
@click.option("--gpus", metavar="all|IDS", help="GPUs for the container.")
@click.pass_context
def run(ctx: click.Context, model: str | None, host: str, port: int, tag: str | None, gpus: str | None) -> None:
    """Start the server; tell where the time to the first frame went, and the address."""
    from bootstrap import serve

    console = _console(ctx)
    if tag is None:
        if gpus is not None:
            raise click.UsageError("--gpus goes with --docker; the local server takes the GPU that it finds")
        serve.run_local(_home(), model, host, port, console)
    else:
        if model is not None or ctx.get_parameter_source("host") == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--model and --host do not go with --docker: an image has its model, on loopback")
        serve.run_docker(_home(), tag, port, gpus, console)


@main.command(
    "build-image",
    epilog=_examples("i2v-setup build-image --model demo --tag i2v-demo", "i2v-setup build-image --dry-run"),
)
@click.option("--model", default="demo", show_default=True, metavar="ID")
@click.option("--tag", metavar="NAME[:TAG]", help="By default i2v-MODEL:latest.")
@click.option("--base-image", metavar="IMAGE", help="The Python image to build on.")
@_torch
@_mirror
@click.option("--dry-run", is_flag=True, help="Show what would be built.")
@_json
@click.pass_context
def build_image(ctx: click.Context, /, dry_run: bool, as_json: bool, **wanted: Any) -> None:
    """Build a Docker image with the runtime and the model's weights in it."""
    from bootstrap import build_image as command
    from bootstrap import present

    console = _console(ctx)
    prepared = command.prepare(command.Request(**wanted), _home(), console, keep=not dry_run)
    if dry_run:
        if as_json:
            console.data(prepared.steps)
        else:
            console.table(present.image_table(prepared.steps))
        return
    deployment = command.build(prepared, _home(), console)
    if as_json:
        console.data(deployment)
    else:
        console.show(present.report_table(deployment))
        console.say(
            f"built: {prepared.spec.tag}; start it with `i2v-setup run --docker {prepared.spec.tag}`", "bold green"
        )


@main.command(epilog=_examples("i2v-setup report", "i2v-setup report --html report.html"))
@_json
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write one self-contained page.")
@click.pass_context
def report(ctx: click.Context, as_json: bool, html: Path | None) -> None:
    """Where the time of the last deployment went."""
    from bootstrap import page, present
    from bootstrap import report as timings

    console = _console(ctx)
    deployment = timings.last(_home())
    if html is not None:
        page.write(deployment, html)
        console.say(f"written: {html}")
    if as_json:
        console.data(deployment)
    elif html is None:
        console.table(present.report_table(deployment))


@main.group(
    invoke_without_command=True,
    epilog=_examples(
        "i2v-setup mirrors --kind conda",
        "i2v-setup mirrors test",
        "i2v-setup mirrors use tuna --scope user",
    ),
)
@click.option("--kind", metavar="KIND", help="pypi, pytorch, conda, docker, hub, apt or python; by default all.")
@_json
@click.pass_context
def mirrors(ctx: click.Context, kind: str | None, as_json: bool) -> None:
    """List the known mirrors, measure them, or use one."""
    if ctx.invoked_subcommand is not None:
        if kind is not None or as_json:
            raise click.UsageError(f"--kind and --json go behind the command: mirrors {ctx.invoked_subcommand} …")
        return
    from bootstrap import mirror_commands, present

    console = _console(ctx)
    known = mirror_commands.known(_home(), kind)
    if as_json:
        console.data(mirror_commands.as_document(known))
    else:
        console.table(present.catalogue_table(known, for_terminal=console.out.is_terminal))


_kind = click.option("--kind", default="pypi", show_default=True, metavar="KIND", help="What the mirrors serve.")


@mirrors.command(
    epilog=_examples(
        "i2v-setup mirrors test", "i2v-setup mirrors test --kind conda", "i2v-setup mirrors test tuna ustc"
    )
)
@_kind
@_json
@click.argument("named", nargs=-1, metavar="[ID|URL]...")
@click.pass_context
def test(ctx: click.Context, kind: str, as_json: bool, named: tuple[str, ...]) -> None:
    """Measure mirrors from here, and say what each can do and why; by default all of a kind.

    The exit code is 1 if none of those that were named is usable.
    """
    from bootstrap import mirror_commands, present

    console = _console(ctx)
    found = mirror_commands.test(_home(), kind, named, console)
    if as_json:
        console.data(mirror_commands.measured(found))
    else:
        console.table(present.verdicts_table(found))
    if named and all(measurement.verdict != "good" for measurement in found):
        ctx.exit(FAILED)


@mirrors.command(
    epilog=_examples(
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

    console = _console(ctx)
    for line in mirror_commands.use(_home(), which, kind, scope, dry_run=dry_run, console=console):
        console.say(line)


@main.command(epilog=_examples("i2v-setup undo"))
@_json
@click.pass_context
def undo(ctx: click.Context, as_json: bool) -> None:
    """Give files that are not ours the very bytes back that they had before."""
    from bootstrap import configs

    console = _console(ctx)
    undone = configs.undo(_home().journal)
    if as_json:
        console.data(undone)
    elif not undone:
        console.say("nothing to undo: no file outside our own directories was written")
    else:
        for file in undone:
            console.say(str(file))
    if any(file.outcome == "changed-since" for file in undone):
        ctx.exit(FAILED)


@main.command(epilog=_examples("i2v-setup clean --dry-run", "i2v-setup clean --older-than 30d"))
@click.option("--older-than", metavar="30d", help="Only what was not used for so long (s, m, h, d, w).")
@click.option("--dry-run", is_flag=True, help="Show what would go, remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_json
@click.pass_context
def clean(ctx: click.Context, older_than: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Give back the room of fetched files and left-overs that nothing uses."""
    from bootstrap import clean as command
    from bootstrap import present
    from bootstrap.errors import UsageProblem

    console, home = _console(ctx), _home()
    found = command.find(home, None if older_than is None else command.seconds(older_than))
    room = sum(leftover.size for leftover in found)
    if found and not as_json:
        (console.table if dry_run else console.show)(present.leftovers_table(found))
    if found and not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise UsageProblem(f"to remove {present.size(room)} needs a yes, and this is no terminal", "add --yes")
            click.confirm(f"Remove them ({present.size(room)})?", default=True, abort=True, err=True)
        with console.working("remove", float(room)) as task:
            found = command.remove(home, found, lambda leftover: task.advance(leftover.size))
        console.say(f"removed: {present.size(sum(leftover.size for leftover in found))}", "bold green")
    elif not found:
        recently = "more recently than that" if older_than else f"in the last {command.RECENT / 60:.0f} minutes"
        console.say(f"nothing to remove: all that is here is in use, or was used {recently}")
    if as_json:
        console.data(found)


if __name__ == "__main__":
    main()
