"""The Docker engine: whether one answers, what it can do, what it has, and the docker command's buildx.

Loading docker-py takes its time: import this where it is used, not at a program's start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import requests
from docker.errors import APIError, DockerException, ImageNotFound

from images.errors import EngineUnavailable, ImageError
from images.reach import START_HINT, Reached, context, reach

_OLDEST_ENGINE = 23  # the first whose BuildKit reads here-documents in a Dockerfile
_OLDEST_RAWJSON = (0, 13)


@dataclass(frozen=True)
class Buildx:
    """The docker command's build plugin."""

    docker: str
    version: tuple[int, int]

    @property
    def progress(self) -> str:
        """The most telling `--progress` that this version knows."""
        return "rawjson" if self.version >= _OLDEST_RAWJSON else "plain"


@dataclass(frozen=True)
class EngineInfo:
    """An engine, in facts. `memory` is in bytes; `store` is "containerd" or the name of a storage driver.

    `podman` is whether it is Podman that answers, with a version of its own.
    """

    version: str
    store: str
    memory: int
    nvidia: bool
    podman: bool = False

    @property
    def release(self) -> tuple[int, int]:
        """The first two numbers of its version, 0 and 0 if it has none (a development build)."""
        match = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(match[1]), int(match[2])) if match else (0, 0)


@dataclass(frozen=True)
class Image:
    """An image that the engine has. `size` is in bytes; `diff_ids` are the digests of its layers, the lowest first.

    `tags` are all of its names. `digest` is what a registry knows it by, or the engine's id where none ever had it.
    """

    id: str
    size: int
    labels: Mapping[str, str]
    diff_ids: tuple[str, ...]
    tags: tuple[str, ...]
    digest: str


class Engine:
    """A connection to the engine that the docker command would use. Close it, or use it in a `with`.

    `address` is where it is: a socket's or a machine's, or "podman".
    """

    def __init__(self, reached: Reached) -> None:
        self.client = reached.client
        self.address = reached.address
        self._service = reached.service
        self._info: EngineInfo | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the engine's socket."""
        self.client.close()
        if self._service is not None:
            self._service.close()

    def info(self) -> EngineInfo:
        """What the engine is and can do; it is asked once."""
        if self._info is None:
            self._info = self._ask()
        return self._info

    def _ask(self) -> EngineInfo:
        with engine_errors("ask the engine what it is"):
            info: dict[str, Any] = self.client.info()
            parts = self.client.version().get("Components") or ()
        snapshotter = any("io.containerd.snapshotter" in value for _, value in info.get("DriverStatus") or ())
        return EngineInfo(
            version=info.get("ServerVersion", ""),
            store="containerd" if snapshotter else info.get("Driver", ""),
            memory=info.get("MemTotal", 0),
            nvidia=_has_nvidia(info),
            podman=any("Podman" in str(part.get("Name")) for part in parts),
        )

    def image(self, reference: str) -> Image:
        """An image by tag or id.

        Raises:
            ImageError: The engine has none of that name.
        """
        found = self.find(reference)
        if found is None:
            hint = f"build it (i2v-setup build-image --tag {reference}), or pull or load one that was built elsewhere"
            raise ImageError(f"the engine has no image {reference}", hint)
        return found

    def find(self, reference: str) -> Image | None:
        """An image by tag or id, if the engine has it."""
        with engine_errors(f"look up the image {reference}"):
            try:
                image = self.client.images.get(reference)
            except ImageNotFound:
                return None
        diff_ids = tuple(image.attrs.get("RootFS", {}).get("Layers") or ())
        digest = min((row.partition("@")[2] for row in image.attrs.get("RepoDigests") or ()), default=image.id or "")
        return Image(image.id or "", image.attrs["Size"], image.labels, diff_ids, tuple(image.tags), digest)

    def images(self) -> Iterator[Image]:
        """All images that the engine has."""
        with engine_errors("list the images of the engine"):
            ids = [str(row["Id"]) for row in self.client.api.images()]
        for image_id in ids:
            if (image := self.find(image_id)) is not None:  # another may have removed it meanwhile
                yield image

    def save(self, reference: str) -> Iterator[bytes]:
        """An image as the archive that `docker save` writes, piece by piece."""
        with engine_errors(f"read the image {reference}"), self.patience():
            yield from self.client.api.get_image(reference)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """For requests during which an engine may say nothing for minutes: it packs or unpacks a large layer."""
        api: Any = self.client.api
        usual, api.timeout = api.timeout, None
        try:
            yield
        finally:
            api.timeout = usual

    def untag(self, reference: str) -> None:
        """Take a name from an image, which goes if it has no other and nothing uses it."""
        with engine_errors(f"remove the image {reference}"), suppress(ImageNotFound):
            self.client.images.remove(reference, noprune=True)


def connect() -> Engine:
    """The engine that the docker command would use: `DOCKER_HOST`, or else the current context's; or else Podman.

    Raises:
        EngineUnavailable: None answers, or it lets us not in.
    """
    return Engine(reach())


def find_buildx() -> Buildx:
    """The docker command with its build plugin.

    Raises:
        ImageError: Either is missing.
    """
    command = shutil.which("docker")
    if not command:
        raise ImageError(
            "the docker command is not on the PATH", "install Docker's command line with its buildx plugin"
        )
    asked = subprocess.run([command, "buildx", "version"], capture_output=True, text=True, check=False)
    match = re.search(r"\bv?(\d+)\.(\d+)\.\d+", asked.stdout)
    if asked.returncode != 0 or not match:
        raise ImageError(
            "the docker command has no buildx plugin", "install it: the package docker-buildx-plugin or docker-buildx"
        )
    return Buildx(command, (int(match[1]), int(match[2])))


def builder() -> str:
    """The builder inside the engine that we speak to: only that one sees the images that the engine has."""
    if os.environ.get("DOCKER_HOST"):
        return "default"
    return str(context().name)


def check_builds(info: EngineInfo) -> None:
    """Raise `ImageError` if the engine cannot build our Dockerfile: it may be too old, or Podman."""
    if info.podman:
        raise ImageError(
            "Podman cannot build this image: that takes a Docker Engine with buildx",
            "build it where there is one (build-image --push REF, or -o FILE.tar), then here: podman pull REF, or "
            "podman load -i FILE.tar; and i2v-setup run --docker TAG starts it with Podman",
        )
    if 0 < info.release[0] < _OLDEST_ENGINE:
        raise ImageError(
            f"Docker {info.version} is too old to build images",
            f"install Docker {_OLDEST_ENGINE} or newer; to run images that were built elsewhere this one will do",
        )


def error_in(line: Mapping[str, Any]) -> str:
    """What a line of an engine's progress says went wrong; empty if nothing did.

    Docker 28 with containerd's store says of an image that it took and cannot unpack no more than this in passing.
    """
    said = str(line.get("stream", ""))
    return str(line.get("error", "")) or (said.strip() if said.startswith("Error unpacking image") else "")


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turns what docker-py raises into `ImageError`, so that callers see one family."""
    try:
        yield
    except APIError as error:
        raise ImageError(f"could not {doing}: {error.explanation or error}") from error
    except (DockerException, requests.RequestException) as error:
        raise EngineUnavailable(f"could not {doing}: the engine does not answer ({error})", START_HINT) from error


def _has_nvidia(info: Mapping[str, Any]) -> bool:
    """Whether containers can be given NVIDIA GPUs: by runtime, device interface or dockerd's own hook."""
    devices = info.get("DiscoveredDevices") or ()
    return (
        "nvidia" in (info.get("Runtimes") or ())
        or any(str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in devices)
        or shutil.which("nvidia-container-runtime-hook") is not None
    )
