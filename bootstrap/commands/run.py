"""The run command."""

from __future__ import annotations

import click

from bootstrap.commands.shared import console_of, examples, home, model_option, precision_option


@click.command(
    epilog=examples("i2v-setup run", "i2v-setup run --port 9000", "i2v-setup run --docker i2v-demo:latest --gpus all")
)
@model_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Beyond loopback an API key is required (I2V_API_KEY)."
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@precision_option
@click.option("--docker", "tag", metavar="TAG", help="Serve from this image instead of the local environment.")
@click.option("--gpus", metavar="all|IDS", help="GPUs for the container.")
@click.pass_context
def run(
    ctx: click.Context,
    model: str | None,
    host: str,
    port: int,
    precision: str | None,
    tag: str | None,
    gpus: str | None,
) -> None:
    """Start the server; tell where the time to the first frame went, and the address."""
    from bootstrap import serve

    console = console_of(ctx)
    if tag is None:
        if gpus is not None:
            raise click.UsageError("--gpus goes with --docker; the local server takes the GPU that it finds")
        serve.run_local(home(), model, (host, port), precision, console)
    else:
        if precision is not None:
            raise click.UsageError("--precision does not go with --docker")
        if model is not None or ctx.get_parameter_source("host") == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--model and --host do not go with --docker: an image has its model, on loopback")
        serve.run_docker(home(), tag, port, gpus, console)
