"""Reaching an engine: the one that the docker command would use, or Podman; and what is said where there is neither.

Knows nothing of what an engine is asked for.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.context import Context, ContextAPI
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from images import podman
from images.errors import EngineUnavailable

START_HINT = "start Docker (sudo systemctl start docker, or Docker Desktop), or install it: https://docs.docker.com/engine/install/"
_API_SECONDS = 30
_TROUBLE = (DockerException, requests.RequestException, OSError)


@dataclass(frozen=True)
class Reached:
    """An engine that answers, where it is, and Podman's service if it is that one, to be closed after it."""

    client: docker.DockerClient
    address: str
    service: podman.Service | None = None


def reach() -> Reached:
    """The engine that answers.

    It is the engine that `DOCKER_HOST` names, or that of the current context; where neither was chosen by the user and
    none answers, it is Podman's. `I2V_ENGINE=podman` takes Podman in any case, `I2V_ENGINE=docker` never.

    Raises:
        EngineUnavailable: None answers, or it lets us not in.
    """
    if _wanted() == "podman":
        return _by_podman(podman.serve())
    address, tls = _address()
    try:
        return Reached(_client(address, tls), address)
    except _TROUBLE as error:
        command = None if _is_chosen() or isinstance(error, PermissionError) else podman.command()
        if command is None:
            raise _unavailable(address, error) from error
    return _by_podman(podman.serve())


def _by_podman(service: podman.Service) -> Reached:
    try:
        # The service's socket is another one each time; what it speaks for is the same.
        return Reached(_client(service.address, tls=False), "podman", service)
    except BaseException as error:
        service.close()
        if isinstance(error, _TROUBLE):
            raise EngineUnavailable(f"Podman does not answer: {error}", podman.HINT) from error
        raise


def _wanted() -> str:
    wanted = os.environ.get("I2V_ENGINE", "")
    if wanted not in ("", "docker", "podman"):
        raise EngineUnavailable(f"I2V_ENGINE={wanted} names no engine", "set it to docker or podman, or to nothing")
    return wanted


def context() -> Context:
    """The docker command's current context.

    Raises:
        EngineUnavailable: There is none of the name in `DOCKER_CONTEXT`.
    """
    name = os.environ.get("DOCKER_CONTEXT")
    found: Context | None = ContextAPI.get_context(name)
    if found is None:
        raise EngineUnavailable(f"there is no Docker context {name}", "see those there are: docker context ls")
    return found


def _is_chosen() -> bool:
    """Whether the user chose an engine: then no other will do."""
    return bool(_wanted() or os.environ.get("DOCKER_HOST")) or context().name != "default"


def _address() -> tuple[str, Any]:
    """Where the docker command would find its engine, and the TLS settings for it."""
    if os.environ.get("DOCKER_HOST"):
        try:
            settings = kwargs_from_env()
        except DockerException as error:
            raise EngineUnavailable(f"DOCKER_HOST or its TLS settings are of no use: {error}", START_HINT) from error
        return settings["base_url"], settings.get("tls", False)
    current = context()
    return current.Host or "", current.TLSConfig or False


def _client(address: str, tls: Any) -> docker.DockerClient:
    _knock(address)
    return docker.DockerClient(base_url=address, tls=tls, timeout=_API_SECONDS)


def _knock(address: str) -> None:
    """Raise `OSError` unless something listens at a local socket: docker-py leaks its own when nothing does."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_API_SECONDS)
            probe.connect(address.removeprefix("unix://"))


def _unavailable(address: str, error: Exception) -> EngineUnavailable:
    if isinstance(error, PermissionError):
        return EngineUnavailable(
            f"no right to use the Docker engine at {address}",
            "add yourself to the docker group (sudo usermod -aG docker $USER), then log in again",
        )
    return EngineUnavailable(f"no Docker engine answers at {address}", START_HINT)
