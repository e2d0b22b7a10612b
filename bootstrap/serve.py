"""The run command: the server as a local process or a container, watched from its start to the first frame.

Both kinds are watched in the same way, over HTTP: `/ready` tells the phases that the server measured of itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from bootstrap import current, deployments, running, spawn, weights
from bootstrap.console import Console
from bootstrap.errors import SetupError
from bootstrap.generate import installed_model
from bootstrap.recorder import Recorder
from bootstrap.report import Deployment, Timing
from bootstrap.reporting import tables
from bootstrap.running import Running
from bootstrap.server_output import Output
from bootstrap.serving import Serving
from bootstrap.state import Home, writable
from bootstrap.units import seconds
from images import container
from images import engine as docker
from images.spec import WEIGHTS_LABEL
from runtime import models

_POLL = 0.25  # seconds
_ANSWER = 5.0  # seconds that one poll may take
_TITLES = {
    "server": "start the server",
    "worker imports": "import torch and diffusers",
    "model load": "load the model",
    "warm-up": "warm up",
    "first frame": "first frame",
}  # in the order in which they come
_FACTS = ("device", "precision")
_GRACE = 10.0  # seconds that a stop may take, beyond a drain

Status = Mapping[str, Any]
Check = Callable[[], None]  # raises if the server has ended


def run_local(home: Home, serving: Serving, console: Console) -> None:
    """Serve in the current environment until Ctrl-C.

    Raises:
        SetupError: nothing installed, the port taken, or the server died.
    """
    generation = current.current(home)
    model = installed_model(home, serving.model)
    log, data = running.log_file(home), writable(home.server)
    arguments = ["--model-id", model.id, "--model-dir", str(weights.directory(home, model)), "--data-dir", str(data)]
    arguments += ["--host", serving.host, "--port", str(serving.port), "--log-file", str(log)]
    arguments += ["--precision", serving.precision] if serving.precision else []
    arguments += ["--drain", f"{serving.drain:g}"] if serving.drain else []
    recorder = Recorder("run", model=model.id, torch=generation.build)
    command = [str(generation.python_path), "-m", "runtime.server", *arguments]

    def check() -> None:
        if (code := child.poll()) is not None:
            raise SetupError(f"the server ended with exit code {code} before it was ready")

    with (
        Output(console) as output,
        spawn.process(command, env=generation.environ(), stdout=sys.stderr, stderr=subprocess.PIPE) as child,
    ):
        output.follow(child)
        began = running.process_began(child.pid)
        note = Running(serving.url, serving.port, child.pid, began, drain=serving.drain, model=model.id)
        with running.noted(home, replace(note, environment=generation.name, log=str(log), data=str(data))):
            _follow(serving.url, recorder, check, console, pid=child.pid)
            try:
                _announce(deployments.save(home, recorder.section()), serving.url, console)
                _check_end(child.wait())
            except KeyboardInterrupt:
                _check_end(_stop(child, serving.drain, console))


def run_docker(home: Home, tag: str, port: int, gpus: str | None, console: Console, drain: float = 0.0) -> None:
    """Serve from an image until Ctrl-C; the container is removed then.

    Raises:
        ImageError: no engine, no such image, the port is taken, or the container ended before it was ready.
        SetupError: it ended later, by itself.
    """
    recorder = Recorder("run", image=tag)
    url, began = Serving(port=port).url, running.process_began(os.getpid())
    with docker.connect() as engine, ExitStack() as stack:
        name = container.name_of(tag)
        note = Running(url, port, os.getpid(), began, image=tag, container=name, engine=engine.address, drain=drain)
        # Before there is a container: were we killed now, it could still be found.
        stack.enter_context(running.noted(home, note))
        with console.working("start the container"), recorder.phase("container", "start the container"):
            model_dir = _to_mount(home, engine.image(tag))
            started = container.start(engine, tag, port, gpus, drain=drain, model_dir=model_dir, mark=note.mark)
            stack.enter_context(started)
        status = _follow(started.url, recorder, started.check, console)
        recorder.facts["model"] = str(status["model"])
        try:
            _announce(deployments.save(home, recorder.section()), started.url, console)
            _check_end(started.wait())
        except KeyboardInterrupt:
            try:
                _say_stopping(drain, console)
                started.stop()
            except KeyboardInterrupt:
                console.say("stopping at once …")
                started.stop(at_once=True)


def _to_mount(home: Home, image: docker.Image) -> Path | None:
    """The directory of the model that an image without one wants; None if it has its own.

    Raises:
        SetupError: the model is not here, or it is another version of it.
    """
    if image.labels.get(WEIGHTS_LABEL) != "mounted":
        return None
    model = models.model(image.labels["i2v-setup.model"])
    if not weights.present(home, model):
        raise SetupError(
            f"this image has no weights in it, and the model {model.id} is not here",
            f"i2v-setup install --model {model.id}",
        )
    if f"sha256:{weights.known(home, model).digest}" != image.labels["i2v-setup.model.digest"]:
        raise SetupError(f"this image was made for another version of the model {model.id}", "build the image again")
    return weights.directory(home, model)


def _stop(child: subprocess.Popen[str], drain: float, console: Console) -> int:
    """Ask the server to end, and once more at a second Ctrl-C; its exit code.

    The server alone is asked: its worker goes on until it is told to end, so that no attempt counts as a failed one.
    """
    try:
        _say_stopping(drain, console)
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            return child.wait(drain + _GRACE)
    except KeyboardInterrupt:
        console.say("stopping at once …")
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            return child.wait(_GRACE)
    return spawn.end(child)


def _say_stopping(drain: float, console: Console) -> None:
    if drain:
        console.say(f"stopping when the job that is made is done, after {drain:g} s at most; Ctrl-C again: at once")
    else:
        console.say("stopping …")


def _follow(url: str, recorder: Recorder, check: Check, console: Console, pid: int | None = None) -> Status:
    """Show each phase as it ends until the server is ready; record all of them.

    With a `pid`, an answer of another process does not count: somebody else's server may hold the port.

    Raises:
        SetupError: the server says that it cannot become ready. And whatever `check` raises.
    """
    offset, told = recorder.elapsed, 0
    console.say(f"  start i2v-setup: {seconds(offset)}")
    with console.working("start the server") as task, requests.Session() as session:
        session.trust_env = False  # loopback is not asked for through a proxy
        while True:
            check()
            status = _ready(session, url)
            if status and pid not in (None, status.get("pid")):
                status = None
            phases = status["phases"] if status else []
            for phase in phases[told:]:
                timing = _timing(phase, offset)
                recorder.add(timing)
                console.say(f"  {timing.title}: {seconds(timing.seconds)}, {seconds(timing.ended)} after the start")
            told = len(phases)
            if status and status["ready"]:
                recorder.facts.update({name: str(status[name]) for name in _FACTS if status.get(name)})
                return status
            if status and status.get("error"):
                raise SetupError(f"the server cannot become ready: {status['error']}")
            task.say(_under_way(phases))
            time.sleep(_POLL)


def _under_way(ended: Sequence[Status]) -> str:
    """What comes after the phases that have ended."""
    names = [name for name in _TITLES if name not in {str(phase["name"]) for phase in ended}]
    return _TITLES[names[0]] if names else ""


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
