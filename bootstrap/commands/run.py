"""The run command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import console_of, examples, home, model_option, precision_option
from bootstrap.serving import HOST, PORT, Serving


@click.command(
    epilog=examples(
        "i2v-setup run",
        "i2v-setup run --port 9000 --drain 120",
        "i2v-setup run --docker i2v-demo:latest --gpus all",
        "i2v-setup run --install-service --user",
    )
)
@model_option
@click.option("--host", default=HOST, show_default=True, help="Beyond loopback an API key is required (I2V_API_KEY).")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(1, 65535))
@precision_option
@click.option(
    "--drain",
    default=0.0,
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="When it is stopped, finish the job that is made first, for so long at most; else it goes back to the queue.",
)
@click.option(
    "--docker",
    "tag",
    metavar="TAG",
    help="Serve from this image, by Docker or Podman, instead of the local environment.",
)
@click.option("--gpus", metavar="all|IDS", help="GPUs for the container.")
@click.option(
    "--install-service", is_flag=True, help="Write a systemd unit that runs this, and start nothing; `undo` removes it."
)
@click.option("--user", is_flag=True, help="With --install-service: a unit of yours, for which no root is needed.")
@click.pass_context
def run(  # noqa: PLR0913 - an option each
    ctx: click.Context,
    /,
    *,
    model: str | None,
    host: str,
    port: int,
    precision: str | None,
    drain: float,
    tag: str | None,
    gpus: str | None,
    install_service: bool,
    user: bool,
) -> None:
    """Start the server; tell where the time to the first frame went, and the address."""
    if user and not install_service:
        raise click.UsageError("--user goes with --install-service")
    if tag is None:
        if gpus is not None:
            raise click.UsageError("--gpus goes with --docker; the local server takes the GPU that it finds")
        serving = Serving(model, host, port, precision, drain)
        if install_service:
            _install_service(ctx, serving, user=user)
        else:
            from bootstrap import serve

            serve.run_local(home(), serving, console_of(ctx))
        return
    if install_service:
        raise click.UsageError("--install-service does not go with --docker: the engine itself restarts containers")
    if precision is not None:
        raise click.UsageError("--precision does not go with --docker")
    if model is not None or ctx.get_parameter_source("host") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--model and --host do not go with --docker: an image has its model, on loopback")
    from bootstrap import serve

    serve.run_docker(home(), tag, port, gpus, console_of(ctx), drain)


def _install_service(ctx: click.Context, serving: Serving, *, user: bool) -> None:
    from bootstrap import service

    console = console_of(ctx)
    done = service.install(home(), serving, user=user)
    click.echo(done.unit, nl=False)
    for path in done.written:
        console.say(f"written: {path}")
    if not done.written:
        console.say("nothing to change")
    for note in done.notes:
        console.warn(note)
    for command in done.commands:
        console.say(f"next: {command}", "bold green")
