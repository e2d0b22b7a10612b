"""Starts an image's server in a container, and stops it.

The container is published on this machine's loopback only, may write nothing but its data volume and /tmp, and has
no privileges. What it serves, and whether its model is ready, its HTTP API says; nothing of that is known here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig

from images import sandbox
from images.engine import Engine, EngineInfo, engine_errors
from images.errors import ImageError
from images.spec import WEIGHTS_LABEL

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer

LABEL = "i2v-setup.container"
_MARK_LABEL = "i2v-setup.container.mark"
_SERVER_PORT = f"{sandbox.PORT}/tcp"
_MEMORY_SHARE = 0.9  # of the engine's machine: better this container is killed than something else
_SHOWN_LINES = 5
_ENDED = ("created", "exited", "dead")
_PORT_TAKEN = ("already allocated", "address already in use", "ports are not available")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_.-]+")
_NO_GPU_HINT = (
    "install the NVIDIA Container Toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker "
    "&& sudo systemctl restart docker"
)
_PODMAN_WITH_GPUS = (5, 4)  # the first that heeds CDI devices in Docker's own words
_NO_CDI_HINT = (
    "install the NVIDIA Container Toolkit, then: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml; "
    "`nvidia-ctk cdi list` shows what there is"
)


class Container:
    """A server in a container. `stop` it, or use it in a `with`."""

    def __init__(self, container: DockerContainer, url: str, drain: float = 0.0) -> None:
        self._container = container
        self._patience = round(drain + sandbox.GRACE_SECONDS)
        self.name = container.name or ""
        self.url = url

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        except KeyboardInterrupt:  # whoever does not want to wait wants it gone all the same
            self.stop(at_once=True)
            raise

    @property
    def running(self) -> bool:
        """Whether it had not ended when it was looked at last."""
        return self._container.status not in _ENDED

    def check(self) -> None:
        """Raise `ImageError` with the container's last words if it has ended."""
        with engine_errors(f"look at the container {self.name}"):
            self._container.reload()
        state = self._container.attrs["State"]
        if self.running:
            return
        if state.get("OOMKilled"):
            raise ImageError(
                f"the container {self.name} was killed for want of memory", "free memory, or a smaller model"
            )
        raise _last_words(self.name, state["ExitCode"], self.logs())

    def wait(self) -> int:
        """Wait for the container to end by itself; its exit code."""
        with engine_errors(f"wait for the container {self.name}"):
            return int(self._container.wait(timeout=None)["StatusCode"])

    def logs(self, tail: int = 100) -> str:
        """The last lines that the container wrote."""
        with engine_errors(f"read the logs of {self.name}"):
            return self._container.logs(tail=tail).decode(errors="replace")

    def stop(self, *, at_once: bool = False) -> None:
        """End the server and remove the container; its data volume stays. Does nothing the second time.

        The server may finish what it was started to finish first, unless it is to end `at_once`.
        """
        with engine_errors(f"stop the container {self.name}"):
            try:
                self._container.stop(timeout=0 if at_once else self._patience)
                self._container.remove(force=True)
            except NotFound:
                pass


def name_of(tag: str) -> str:
    """The name of an image's container, where it is given no other."""
    return _NOT_IN_NAMES.sub("-", tag)


def marked(engine: Engine, mark: str, drain: float = 0.0) -> Container | None:
    """The container that was started with that mark, whether it has ended or not; None if it was removed."""
    with engine_errors("look for the container that was left"):
        label = f"{_MARK_LABEL}={mark}"
        found = engine.client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
    return Container(found[0], "", drain) if found else None


def names(engine: Engine) -> tuple[str, ...]:
    """The containers of servers that run in the engine, whoever started them."""
    with engine_errors("list the containers"):
        found = engine.client.containers.list(filters={"label": LABEL}, ignore_removed=True)
        return tuple(one.name or "" for one in found)


def start(  # noqa: PLR0913 - a setting each
    engine: Engine,
    tag: str,
    port: int | None = None,
    gpus: str | None = None,
    name: str | None = None,
    *,
    drain: float = 0.0,
    model_dir: Path | None = None,
    mark: str = "",
) -> Container:
    """Start the image's server, published on 127.0.0.1 only.

    Jobs and videos are kept in the volume `<name>-data` for the next container of that name.

    Args:
        engine: Where to start it.
        tag: The image.
        port: The port on this machine; None lets the engine choose a free one.
        gpus: "all", or GPU numbers or ids separated by commas; None for no GPU.
        name: The container's name; None makes one of the tag. One of that name that has ended is replaced.
        drain: For how many seconds a stop waits for the job that is being made.
        model_dir: The model's files, for an image that has none: mounted, and never written to.
        mark: What `marked` finds the container by.

    Raises:
        ImageError: No such image, it wants a model, the port or name is taken, or no GPUs can be given.
    """
    name = name or name_of(tag)
    image = engine.image(tag)
    if image.labels.get(WEIGHTS_LABEL) == "mounted" and model_dir is None:
        raise ImageError(f"the image {tag} has no model in it", "start it with the directory of the model's files")
    info = engine.info()
    if gpus:
        _check_gives_gpus(info)
    _remove_ended(engine, name)
    with engine_errors(f"create the container {name}"):
        try:
            engine.client.volumes.create(_volume(name), labels={LABEL: name})
            options = _options(name, port, gpus, info)
            if model_dir is not None:
                options["volumes"][str(model_dir.absolute())] = {"bind": sandbox.MODEL, "mode": "ro"}
            options["labels"] |= {_MARK_LABEL: mark} if mark else {}
            options["command"] += ["--drain", f"{drain:g}"] if drain else []
            container = engine.client.containers.create(tag, **options)
        except APIError as error:
            raise _explain(error, name, port, info) from error
    try:
        with engine_errors(f"start {tag}"):
            try:
                container.start()
            except APIError as error:
                raise _explain(error, name, port, info) from error
            container.reload()
        bindings = container.ports.get(_SERVER_PORT)
        started = Container(
            container, f"http://{sandbox.LOOPBACK}:{bindings[0]['HostPort'] if bindings else port}", drain
        )
        started.check()
    except BaseException:
        container.remove(force=True)
        raise
    return started


def _options(name: str, port: int | None, gpus: str | None, info: EngineInfo) -> dict[str, Any]:
    """How docker-py is told to run the server: as little as it needs."""
    limit = int(info.memory * _MEMORY_SHARE) or None
    return {
        "name": name,
        "labels": {LABEL: name},
        # It listens on all of its own interfaces; that this machine's loopback is the only way there lets it
        # do without an API key.
        "command": ["--published-on", sandbox.LOOPBACK],
        "ports": {_SERVER_PORT: (sandbox.LOOPBACK, port)},
        "volumes": {_volume(name): {"bind": sandbox.DATA, "mode": "rw"}},
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,size={sandbox.TMP_BYTES},mode=1777"},  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": sandbox.PROCESSES,
        "shm_size": sandbox.SHM_BYTES,
        "mem_limit": limit,
        "memswap_limit": limit,
        "log_config": LogConfig(
            type=LogConfig.types.JSON, config={"max-size": sandbox.LOG_SIZE, "max-file": sandbox.LOG_FILES}
        ),
        "device_requests": [_device_request(gpus, info)] if gpus else None,
        "use_config_proxy": False,  # it needs no network, and a proxy's password would be plain to see
    }


def _volume(name: str) -> str:
    return f"{name}-data"


def _check_gives_gpus(info: EngineInfo) -> None:
    if info.podman:
        if info.release < _PODMAN_WITH_GPUS:  # an older one says nothing, and gives none
            wanted = ".".join(map(str, _PODMAN_WITH_GPUS))
            raise ImageError(
                f"Podman {info.version} cannot give GPUs to containers that are started like this",
                f"install Podman {wanted} or newer, or Docker",
            )
    elif not info.nvidia:
        raise ImageError("this Docker engine cannot give GPUs to containers", _NO_GPU_HINT)


def _device_request(gpus: str, info: EngineInfo) -> DeviceRequest:
    if info.podman:
        return DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={gpu}" for gpu in gpus.split(",")])
    if gpus == "all":
        return DeviceRequest(count=-1, capabilities=[["gpu"]])
    return DeviceRequest(device_ids=gpus.split(","), capabilities=[["gpu"]])


def _remove_ended(engine: Engine, name: str) -> None:
    """Make way for a new container where ours of that name has ended without being removed."""
    with engine_errors(f"look for the container {name}"):
        for old in engine.client.containers.list(all=True, filters={"name": f"^/{name}$", "label": LABEL}):
            if old.status in _ENDED:
                old.remove()


def _explain(error: APIError, name: str, port: int | None, info: EngineInfo) -> ImageError:
    text = str(error.explanation or error)
    if any(sign in text for sign in _PORT_TAKEN):
        return ImageError(f"port {port} on {sandbox.LOOPBACK} is taken", "choose another one: --port N")
    if "is already in use by" in text:
        hint = f"stop it: i2v-setup stop, or {'podman' if info.podman else 'docker'} rm --force {name}"
        return ImageError(f"a container named {name} is there already", hint)
    if "unresolvable CDI devices" in text:
        return ImageError(f"Podman knows no such GPU: {text}", _NO_CDI_HINT)
    if "could not select device driver" in text:
        return ImageError("this Docker engine cannot give GPUs to containers", _NO_GPU_HINT)
    return ImageError(f"the container cannot start: {text}", "see the engine's own log")


def _last_words(name: str, code: int, logs: str) -> ImageError:
    """The error for a container that has ended: the server's own message, or else the last lines of its log."""
    lines = [line for line in logs.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    hint = next((line for line in reversed(lines) if line.startswith("hint: ")), "")
    reason = said.removeprefix("error: ") or "\n".join(lines[-_SHOWN_LINES:]) or "it wrote nothing"
    return ImageError(f"the container {name} ended with exit code {code}: {reason}", hint.removeprefix("hint: "))
