"""The run command: the server as a local process or a container, watched from its start to the first frame.

Both kinds are watched in the same way, over HTTP: `/ready` tells the phases that the server measured of itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import requests

from bootstrap import current, deployments, spawn, weights
from bootstrap.console import Console
from bootstrap.errors import SetupError
from bootstrap.generate import installed_model
from bootstrap.recorder import Recorder
from bootstrap.report import Deployment, Timing
from bootstrap.reporting import tables
from bootstrap.state import Home, writable
from images import container
from images import engine as docker

_POLL = 0.25  # seconds
_ANSWER = 5.0  # seconds that one poll may take
_TITLES = {
    "server": "start the server",
    "worker imports": "import torch and diffusers",
    "model load": "load the model",
    "warm-up": "warm up",
}

Status = Mapping[str, Any]
Check = Callable[[], None]  # raises if the server has ended


def run_local(
    home: Home, model_id: str | None, address: tuple[str, int], precision: str | None, console: Console
) -> None:
    """Serve in the current environment until Ctrl-C, on a host and port.

    Raises:
        SetupError: nothing installed, the port taken, or the server died.
    """
    host, port = address
    generation = current.current(home)
    model = installed_model(home, model_id)
    arguments = ["--model-id", model.id, "--model-dir", str(weights.directory(home, model))]
    arguments += ["--host", host, "--port", str(port), "--data-dir", str(writable(home.server))]
    arguments += ["--precision", precision] if precision else []
    recorder = Recorder("run", model=model.id, torch=generation.build)
    command = [str(generation.python_path), "-m", "runtime.server", *arguments]

    def check() -> None:
        if (code := child.poll()) is not None:
            raise SetupError(f"the server ended with exit code {code} before it was ready")

    with spawn.process(command, env=generation.environ(), stdout=sys.stderr) as child:
        _follow(_url(host, port), recorder, check, console, pid=child.pid)
        _announce(deployments.save(home, recorder.section()), _url(host, port), console)
        try:
            _check_end(child.wait())
        except KeyboardInterrupt:
            console.say("stopping …")
            _check_end(spawn.end(child))


def run_docker(home: Home, tag: str, port: int, gpus: str | None, console: Console) -> None:
    """Serve from an image until Ctrl-C; the container is removed then.

    Raises:
        ImageError: no engine, no such image, the port is taken, or the container ended before it was ready.
        SetupError: it ended later, by itself.
    """
    recorder = Recorder("run", image=tag)
    with docker.connect() as engine:
        with console.working("start the container"), recorder.phase("container", "start the container"):
            running = container.start(engine, tag, port, gpus)
        with running:
            status = _follow(running.url, recorder, running.check, console)
            recorder.facts["model"] = str(status["model"])
            _announce(deployments.save(home, recorder.section()), running.url, console)
            try:
                _check_end(running.wait())
            except KeyboardInterrupt:
                console.say("stopping …")


def _follow(url: str, recorder: Recorder, check: Check, console: Console, pid: int | None = None) -> Status:
    """Show each phase as it ends until the server is ready; record all of them.

    With a `pid`, an answer of another process does not count: somebody else's server may hold the port.

    Raises:
        SetupError: the server says that it cannot become ready. And whatever `check` raises.
    """
    offset, told = recorder.elapsed, 0
    with console.working("start the server") as task, requests.Session() as session:
        session.trust_env = False  # loopback is not asked for through a proxy
        while True:
            check()
            status = _ready(session, url)
            if status and pid not in (None, status.get("pid")):
                status = None
            phases = status["phases"] if status else []
            for phase in phases[told:]:
                recorder.add(_timing(phase, offset))
                console.say(f"  {phase['name']}: {float(phase['seconds']):.2f} s")
            told = len(phases)
            if status and status["ready"]:
                return status
            if status and status.get("error"):
                raise SetupError(f"the server cannot become ready: {status['error']}")
            task.say(f"after {phases[-1]['name']}" if phases else "waiting for it to listen")
            time.sleep(_POLL)


def _check_end(code: int) -> None:
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = "its reason stands above; unfinished jobs go on at its next start"
        raise SetupError(f"the server ended with {how}", hint)


def _ready(session: requests.Session, url: str) -> Status | None:
    try:
        document = session.get(f"{url}/ready", timeout=_ANSWER).json()
    except (requests.RequestException, ValueError):
        return None
    return document if isinstance(document, dict) and "phases" in document else None


def _timing(phase: Status, offset: float) -> Timing:
    name = str(phase["name"])
    return Timing(name, _TITLES.get(name, name), offset + float(phase["started"]), float(phase["seconds"]))


def _announce(deployment: Deployment, url: str, console: Console) -> None:
    # the others were shown when they were made; `i2v-setup report` has all
    console.show(tables.deployment(replace(deployment, sections=deployment.sections[-1:])))
    console.say(f"ready: {url} (Ctrl-C stops it)", "bold green")


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
