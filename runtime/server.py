"""The server's process: checks what it was told, binds its port, and runs the API over one worker.

    python -m runtime.server --model-id M --model-dir DIR --data-dir DIR [--host 127.0.0.1] [--port 8000]

SIGHUP has the model loaded anew; the worker that serves goes on until the new one is ready. SIGTERM and SIGINT end it:
what is being made goes back to the queue, or with `--drain` is finished first, until a second signal comes. The API key
comes in I2V_API_KEY, or in the file that I2V_API_KEY_FILE names, never on the command line, where others could read it.
This process never imports torch. Knows nothing of how the environment or the model came here.
"""

import argparse
import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, get_args

from runtime import api_key, logs
from runtime.dispatcher import Dispatcher
from runtime.jobs import MAX_WAITING, JobStore
from runtime.measurements import Measurements
from runtime.metrics import Metrics
from runtime.model_spec import Arithmetic
from runtime.models import installed
from runtime.network import is_loopback
from runtime.problems import RuntimeProblem
from runtime.retention import KEEP_BYTES, KEEP_SECONDS
from runtime.status import Settings
from runtime.timing import process_started
from runtime.worker import Loading

if TYPE_CHECKING:
    from fastapi import FastAPI

_log = logging.getLogger("runtime.server")
#: How long a clean stop waits for answers that are under way.
_GRACE_SECONDS = 3
#: Between two looks whether the last job has ended.
_LOOK_SECONDS = 0.1
_DAY = 24 * 3600


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the server until it is told to stop, and returns its exit status."""
    arguments = _parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        # While uvicorn runs it has its own handlers; when it has shut down, it raises the signal again for this one.
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with logs.logging_to_stderr() as log:
            _serve(arguments, log)
    except RuntimeProblem as problem:
        sys.stderr.write(f"error: {problem}\n" + (f"hint: {problem.hint}\n" if problem.hint else ""))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.server", description="Serve image-to-video over HTTP.")
    parser.add_argument("--model-id", default="demo")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="where jobs and videos are kept")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes any free one")
    parser.add_argument(
        "--published-on", metavar="ADDRESS", help="the host's address on which a container's port is published"
    )
    parser.add_argument("--max-waiting", type=int, default=MAX_WAITING, help="jobs that may wait")
    parser.add_argument("--no-warmup", action="store_true", help="be ready sooner, the first video is slower")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="ID=DIR",
        help="another model that may be switched to; may be given again",
    )
    parser.add_argument(
        "--precision", choices=get_args(Arithmetic), help="what to compute in, if not what suits the model and device"
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the model's blocks: the first video of each shape takes longer"
    )
    parser.add_argument(
        "--batch", type=int, default=Settings.most_together, help="waiting videos of one shape to make in one call"
    )
    parser.add_argument(
        "--hang-seconds", type=float, default=Settings.hang_seconds, help="replace a worker that is silent for so long"
    )
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="when told to stop, first finish the job that is being made, for so long at most",
    )
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="keep the log there as well")
    parser.add_argument("--keep-days", type=float, default=KEEP_SECONDS / _DAY, help="how long videos are kept")
    parser.add_argument("--keep-gb", type=float, default=KEEP_BYTES / 1e9, help="how much room videos may take")
    return parser


def _serve(arguments: argparse.Namespace, log: logs.Logs) -> None:
    loadings = _loadings(arguments)
    key = api_key.take()
    log.hide(key)
    reached_at = arguments.published_on or arguments.host
    private = is_loopback(reached_at)
    if not (key or private):
        raise RuntimeProblem(
            f"others can reach {reached_at}, and there is no API key", f"set {api_key.VARIABLE}, or serve on 127.0.0.1"
        )
    listener = _bind(arguments.host, arguments.port)
    metrics = Metrics()
    store = JobStore(
        arguments.data_dir,
        arguments.max_waiting,
        keep_seconds=arguments.keep_days * _DAY,
        keep_bytes=int(arguments.keep_gb * 1e9),
        on_end=metrics.ended,
    )
    if arguments.log_file:
        log.keep(arguments.log_file)  # not before: the store lets one server at a time go on from here
    measurements = Measurements(arguments.data_dir / "measurements.sqlite3")
    settings = Settings(arguments.batch, arguments.hang_seconds, warm_up=not arguments.no_warmup)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(arguments.data_dir.absolute() / "compiled"))
    dispatcher = Dispatcher(store, measurements, loadings, process_started(), settings)
    try:
        from runtime.api import create_app
        from runtime.guard import ApiKey
        from runtime.services import Services

        services = Services(store, dispatcher, metrics, _setup(arguments), lambda: log.errors)
        app = create_app(services, api_key=ApiKey(key) if key else None, loopback_only=private)
        asyncio.run(_listen(app, listener, dispatcher, arguments.drain))
    finally:
        dispatcher.stop()
        measurements.close()
        store.close()
        _log.info("stopped", extra={"event": "stopped"})


def _setup(arguments: argparse.Namespace) -> dict[str, object]:
    """What may be told of how the server was started: no addresses and no places."""
    names = ("precision", "compile", "batch", "max_waiting", "hang_seconds", "drain", "keep_days", "keep_gb")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _loadings(arguments: argparse.Namespace) -> list[Loading]:
    """The models that can be served, the first one first."""
    named = [text.partition("=") for text in arguments.model]
    directories = {arguments.model_id: arguments.model_dir, **{name: Path(place) for name, _, place in named}}
    loadings = []
    for model_id, directory in directories.items():
        spec = installed(model_id, directory)
        spec.check(directory)
        loadings.append(Loading(spec, directory, arguments.precision, compiled=arguments.compile))
    return loadings


async def _listen(app: "FastAPI", listener: socket.socket, dispatcher: Dispatcher, drain: float) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, dispatcher.reload)
            dispatcher.start()  # not before: on few cores its imports would keep /health waiting
            _log.info("listening on %s", _url(listener), extra={"event": "listening"})

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit or dispatcher.draining or not drain:
                self.force_exit = self.should_exit or dispatcher.draining  # the second signal: nobody is waited for
                super().handle_exit(sig, frame)
                return
            dispatcher.drain()
            asyncio.get_running_loop().call_soon_threadsafe(self._finish)

        def _finish(self) -> None:
            self._finishing = asyncio.ensure_future(self._drained())

        async def _drained(self) -> None:
            until = time.monotonic() + drain
            while not dispatcher.idle and time.monotonic() < until:
                await asyncio.sleep(_LOOK_SECONDS)
            self.should_exit = True

    await Server(config).serve(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    """Our own socket, before anything slow: that a port is taken is said at once, in one line."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RuntimeProblem(f"port {port} on {host} is taken", "stop what uses it, or choose another") from None
        raise RuntimeProblem(f"cannot listen on {host} port {port}: {error.strerror}", "choose another") from None
    # asyncio sets this on the sockets that it makes itself; without, the end of each answer waits 40 ms for the client.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("seconds are a number from 0 on")
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
