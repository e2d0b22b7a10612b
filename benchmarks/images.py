"""How fast images with weights are built, rebuilt, pushed and pulled, against the three usual ways to put weights in.

    app change              nothing of the weights written or sent; at most 0.1 of a plain `COPY .`
    dependency change       at most 0.1 of a named context, and of an image of weights that is copied from
    first push              at most 0.25 of buildx and `docker push`; at most 3 times hashing and copying the same bytes
    push after a change     nothing of the weights sent
    pull after a change     of dependencies, by a node that has the image before: at most 0.1 of weights on top
    first local delivery    in containerd's store at most 0.35 of buildx; in overlay2 1.1 of its time, 0.8 of its writes
    start                   the demo model's image by `run --docker`: /health in at most 3 s, the first frame in 20 s
    ten rebuilds            with new mtimes, a renamed directory, two at once: nothing of the weights sent

2 GB of bytes that cannot be compressed (200 MB with --quick), other ones for each first time. The default engine; rows
for a second one, whose images are in containerd's store, where I2V_TEST_CONTAINERD_ENGINE names it. The base image is
I2V_TEST_BASE_IMAGE. A real registry on loopback (docker-registry has to be installed). What the runs leave in the
engines is removed, and nothing else; nobody else should build there meanwhile. It takes 15 GB of disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import docker
import psutil
import requests

from benchmarks.harness import Row, main
from images.build import build
from images.inputs import Recipe
from images.spec import Built, Destination, ImageSpec
from runtime.models import ModelSpec
from tests.images.registries import real_registry

BASE = os.environ.get("I2V_TEST_BASE_IMAGE", "python:3.11-slim-bookworm")
CONTAINERD = os.environ.get("I2V_TEST_CONTAINERD_ENGINE")
FILES = 4
_NAMES = ("i2v-bench", "i2v-weights")
_HEAD = f"FROM {BASE}\nCOPY packages /opt/packages\n"
#: The usual ways, as Dockerfiles; the weights are in the context, in a named one, or in an image of their own.
NAIVE = _HEAD + "COPY . /src\n"
NAMED = _HEAD + "COPY --from=weights / /model\nCOPY runtime /app\n"
COPIED = _HEAD + "COPY --link --from=i2v-bench-weights:{name} / /model\nCOPY runtime /app\n"
OURS = (
    "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY packages /opt/packages\nCOPY runtime /app\n"
    "LABEL i2v-setup.parts='packages=/opt/packages application=/app'\n"
)


@dataclass
class Bench:
    """A project with weights, in a directory, and one engine to build it in."""

    directory: Path
    size: int
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self) -> None:
        """Make the files."""
        for folder in ("weights", "packages", "runtime/locks", "scratch"):
            (self.directory / folder).mkdir(parents=True)
        (self.directory / "runtime" / "locks" / "cpu.txt").touch()
        for number in range(FILES):
            with (self.weights / f"{number}.safetensors").open("wb") as file:
                for _ in range(self.size // FILES >> 20):
                    file.write(os.urandom(1 << 20))
        self.change_app()
        self.change_packages()
        self.renew_weights()

    @property
    def weights(self) -> Path:
        """Where the weights lie."""
        return self.directory / "weights"

    def renew_weights(self) -> None:
        """No engine and no registry has seen these."""
        rows = []
        for path in sorted(self.weights.glob("*.safetensors")):
            with path.open("r+b") as file:
                file.write(uuid.uuid4().bytes)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append({"path": path.name, "size": path.stat().st_size, "sha256": digest})
        (self.directory / "manifest.json").write_text(json.dumps({"files": rows}))

    def change_app(self) -> None:
        """A line of code."""
        (self.directory / "runtime" / "app.py").write_text(f"# {uuid.uuid4()}\n")

    def change_packages(self) -> None:
        """Another version of a small package."""
        (self.directory / "packages" / "package.py").write_bytes(os.urandom(1 << 20))

    @property
    def model(self) -> ModelSpec:
        """The weights as they are now."""
        return ModelSpec(
            id="bench",
            title="Bench",
            family="i2vgen-xl",
            repo=None,
            revision=None,
            licence="none",
            gated=False,
            precision="fp16",
            note="",
            manifest=str(self.directory / "manifest.json"),
        )

    def ours(self, *, push: str | None = None, on_top: bool = False, weights: Path | None = None) -> Built:
        """Our way."""
        (self.directory / "Dockerfile").write_text(OURS)
        spec = ImageSpec(f"i2v-bench-ours:{self.name}", BASE, "cpu", self.model, weights or self.weights, {})
        return build(
            replace(spec, on_top=on_top),
            lambda _line: None,
            destination=Destination(push=push),
            recipe=Recipe(self.directory / "Dockerfile", self.directory),
            scratch=self.directory / "scratch",
        )

    def theirs(self, dockerfile: str) -> str:
        """One of the usual ways; the image's name."""
        if dockerfile == COPIED:
            self._buildx("FROM scratch\nCOPY weights /\n", f"i2v-bench-weights:{self.name}")
        tag = f"i2v-bench-theirs:{self.name}"
        self._buildx(dockerfile.format(name=self.name), tag)
        return tag

    def _buildx(self, dockerfile: str, tag: str) -> None:
        path = self.directory / "Dockerfile.theirs"
        path.write_text(dockerfile)
        path.with_name("Dockerfile.theirs.dockerignore").write_text("scratch\nDockerfile*\nmanifest.json\n")
        options = (f"--file={path}", f"--tag={tag}", "--load", "--provenance=false")
        _run("docker", "buildx", "build", *options, f"--build-context=weights={self.weights}", str(self.directory))


def measure(quick: bool) -> Sequence[Row]:
    """All rows."""
    size, runs = (200 * 2**20, 1) if quick else (2 * 10**9, 5)
    rows = [*_local("the default store", None, size, runs)]
    if CONTAINERD:
        rows += _local("containerd's store", CONTAINERD, size, runs)
    with _bench(size, None) as bench:
        rows += [*_changes(bench, runs), _ten_rebuilds(bench)]
    rows += _pushes(size, runs)
    rows += _node(size, runs)
    rows += _starts(runs)
    return rows


def _local(store: str, host: str | None, size: int, runs: int) -> Iterator[Row]:
    """The first time that an engine gets an image with these weights."""
    ours, theirs = list[tuple[float, int]](), list[tuple[float, int]]()
    for _ in range(runs):
        with _bench(size, host) as bench:
            bench.theirs(_HEAD)  # that the base image is there and unpacked is not what is measured
            ours.append(_costs(bench.ours))
            theirs.append(_costs(partial(bench.theirs, NAMED)))
    seconds, peer = (statistics.median(taken for taken, _ in each) for each in (ours, theirs))
    written, wrote = (statistics.median(count for _, count in each) for each in (ours, theirs))
    with _engine(host) as client:
        bar = 0.35 if any("io.containerd" in value for _, value in client.info()["DriverStatus"]) else 1.1
    yield _ratio(f"first local delivery, {store}", seconds, peer, bar, "buildx with a named context")
    if bar > 1:
        told = f"{written / 1e9:.2f} GB, buildx {wrote / 1e9:.2f} GB"
        yield Row(
            f"first local delivery, {store}: written", written / wrote, "x", "at most 0.8", written <= 0.8 * wrote, told
        )


def _changes(bench: Bench, runs: int) -> Iterator[Row]:
    """What a change costs of which the weights are no part."""
    ways: dict[str, Callable[[], object]] = {
        "naive": lambda: bench.theirs(NAIVE),
        "named context": lambda: bench.theirs(NAMED),
        "image of weights": lambda: bench.theirs(COPIED),
    }
    bench.ours()
    app: dict[str, list[float]] = {name: [] for name in ("ours", *ways)}
    packages: dict[str, list[float]] = {name: [] for name in ("ours", *ways)}
    sent, written = 0, 0
    for number in range(2 * runs):
        taken, change = ((app, bench.change_app), (packages, bench.change_packages))[number % 2]
        with _cleared_up(None):  # or every round would leave the weights on the disk again, several times
            for way in ways.values():
                way()  # what the first time takes is not counted
            change()
            before = _written()
            began = time.perf_counter()
            built = bench.ours()
            taken["ours"].append(time.perf_counter() - began)
            if taken is app:
                written = max(written, _written() - before)
            sent += sum(layer.size for layer in built.layers if not layer.reused)
            for name, way in ways.items():
                taken[name].append(_costs(way)[0])
    middle = {name: statistics.median(app[name]) for name in app}
    yield _ratio("app change", middle["ours"], middle["naive"], 0.1, "a plain COPY .")
    yield Row("app or dependency change: weights sent", sent, "bytes", "0", sent == 0, "")
    yield Row("app change: disk written", written / 1e6, "MB", "far below the weights", written < bench.size / 10, "")
    middle = {name: statistics.median(packages[name]) for name in packages}
    for name in ("named context", "image of weights"):
        yield _ratio("dependency change", middle["ours"], middle[name], 0.1, name)


def _ten_rebuilds(bench: Bench) -> Row:
    sent, where = 0, bench.weights
    with ThreadPoolExecutor(2) as pool:
        for number in range(5):
            bench.change_app()
            for path in where.iterdir():
                os.utime(path, (number, number))
            where = where.rename(bench.directory / f"weights-{number}")
            for built in pool.map(lambda place: bench.ours(weights=place), (where, where)):
                sent += sum(layer.size for layer in built.layers if not layer.reused)
    where.rename(bench.weights)
    return Row("ten rebuilds, two at once: weights sent", sent, "bytes", "0", sent == 0, "")


def _pushes(size: int, runs: int) -> Iterator[Row]:
    ours, theirs, limits, again = list[float](), list[float](), list[float](), 0
    for _ in range(runs):
        with _bench(size, None) as bench, _registry(bench.directory) as host:
            bench.theirs(_HEAD)
            ours.append(_costs(partial(bench.ours, push=f"{host}/ours:1"))[0])
            bench.change_app()
            built = bench.ours(push=f"{host}/ours:2")
            weights = {layer.digest for layer in built.layers if "weights" in layer.about}
            again += sum(layer.size for layer in built.layers if layer.digest in weights and not layer.reused)
            limits.append(_costs(partial(_hash_and_copy, bench))[0])

            def plain(bench: Bench = bench, host: str = host) -> None:
                tag = bench.theirs(NAMED)
                _run("docker", "tag", tag, f"{host}/theirs:1")
                _run("docker", "push", "--quiet", f"{host}/theirs:1")
                _run("docker", "image", "rm", f"{host}/theirs:1")

            theirs.append(_costs(plain)[0])
    middle = statistics.median(ours)
    yield _ratio("first push, build included", middle, statistics.median(theirs), 0.25, "buildx and docker push")
    yield _ratio(
        "first push, build included", middle, statistics.median(limits), 3, "sha256, cp and sync of the weights"
    )
    yield Row("push after an app change: weights sent", again, "bytes", "0", again == 0, "")


def _node(size: int, runs: int) -> Iterator[Row]:
    """A node that has the image pulls the one with other dependencies."""
    if not CONTAINERD:
        yield Row("pull after a dependency change", None, "x", "at most 0.1", None, "there is no second engine")
        return
    taken: dict[bool, list[float]] = {False: [], True: []}
    with _bench(size, None) as bench, _registry(bench.directory) as host, _engine(CONTAINERD) as node:
        tags = 0
        for _ in range(runs + 1):
            for on_top, seconds in taken.items():
                tags += 1
                repository = f"{host}/{'top' if on_top else 'below'}"
                bench.ours(push=f"{repository}:{tags}", on_top=on_top)
                began = time.perf_counter()
                node.images.pull(repository, str(tags))
                seconds.append(time.perf_counter() - began)
            bench.change_packages()
        for image in node.images.list():
            for tag in image.tags:
                if tag.startswith(host):
                    node.images.remove(tag)
    below, top = (statistics.median(seconds[1:]) for seconds in taken.values())  # the first was of all the weights
    yield _ratio("pull after a dependency change", below, top, 0.1, "weights on top")


def _starts(runs: int) -> Iterator[Row]:
    """The demo model's image, from the command to an answer and to the first frame of the warm-up."""
    tag, command = "i2v-bench-demo:latest", str(Path(sys.executable).with_name("i2v-setup"))
    _run(command, "build-image", "--model", "demo", "--torch", "cpu", "--tag", tag, "--base-image", BASE)
    answers, frames = list[float](), list[float]()
    for _ in range(runs):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        began = time.perf_counter()
        with subprocess.Popen(
            [command, "run", "--docker", tag, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as server:
            try:
                for path, taken in (("/health", answers), ("/ready", frames)):
                    while not _answers(f"http://127.0.0.1:{port}{path}"):
                        if server.poll() is not None:
                            raise RuntimeError((server.stderr.read() if server.stderr else b"").decode()[-2000:])
                        time.sleep(0.02)
                    taken.append(time.perf_counter() - began)
            finally:
                server.terminate()
                server.communicate()
    for what, taken, bar in (("/health answers", answers, 3.0), ("first frame", frames, 20.0)):
        seconds = statistics.median(taken)
        yield Row(f"demo image, {what}", seconds, "s", f"at most {bar:g}", seconds <= bar, "from the command on")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def _hash_and_copy(bench: Bench) -> None:
    copy = bench.directory / "copy"
    copy.mkdir()
    for path in bench.weights.iterdir():
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        shutil.copyfile(path, copy / path.name)
    os.sync()
    shutil.rmtree(copy)


@contextmanager
def _bench(size: int, host: str | None) -> Iterator[Bench]:
    """A project of its own, built in that engine; all that it left there is removed."""
    before = os.environ.get("DOCKER_HOST")
    if host:
        os.environ["DOCKER_HOST"] = host
    try:
        with _cleared_up(host), tempfile.TemporaryDirectory() as directory:
            yield Bench(Path(directory), size)
    finally:
        if host and before is None:
            del os.environ["DOCKER_HOST"]


@contextmanager
def _cleared_up(host: str | None) -> Iterator[None]:
    """Removes from that engine what came into it within the block."""
    with _engine(host) as client:
        known = _cached(client)
        images = {image.id for image in client.images.list()}
        try:
            yield
        finally:
            for image in client.images.list():
                # One whose name went to the next has none.
                if image.id not in images and all(tag.startswith(_NAMES) for tag in image.tags):
                    client.images.remove(str(image.id), force=True)
            _prune(client, known)


@contextmanager
def _engine(host: str | None) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=host, timeout=600) if host else docker.from_env(timeout=600)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _registry(directory: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with real_registry(directory / "scratch", port) as host:
        yield host


def _prune(client: docker.DockerClient, known: set[str]) -> None:
    """Remove what came into the build cache, those first of which others are made."""
    while new := _cached(client) - known:
        for record in new:
            client.api.prune_builds(filters={"id": record}, all=True)  # type: ignore[arg-type]
        if _cached(client) - known == new:
            return  # something still uses them


def _cached(client: docker.DockerClient) -> set[str]:
    return {str(record["ID"]) for record in client.df().get("BuildCache") or ()}


def _costs(action: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and bytes written to all disks, what is still in memory afterwards included."""
    before = _written()
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    return seconds, _written() - before


def _written() -> int:
    os.sync()
    counters = psutil.disk_io_counters()
    return counters.write_bytes if counters else 0


def _ratio(name: str, value: float, peer: float, bar: float, against: str) -> Row:
    told = f"{against}: {peer:.2f} s, ours {value:.2f} s"
    return Row(f"{name}, of {against}", value / peer, "x", f"at most {bar:g}", value <= bar * peer, told)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main(measure, __doc__ or "")
