"""Plans and builds an image: `docker buildx build` of the root Dockerfile, followed and timed.

The build is handed all that it installs, so it needs no index, and nothing that may be secret is given to it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from images.engine import Buildx, check_age, connect, find_buildx
from images.errors import ImageError
from images.failures import explain
from images.inputs import Recipe, place_model, place_wheels, shipped_recipe
from images.progress import Progress
from images.spec import Built, ImageSpec, Phase, PlannedStep
from mirrors import hub_token
from runtime import __version__

_STOP_SECONDS = 10


def plan(spec: ImageSpec, *, wheel_bytes: int | None = None, recipe: Recipe | None = None) -> tuple[PlannedStep, ...]:
    """What `build` would do, in order. Asks no engine, sends nothing, and needs neither the wheels nor the model.

    Args:
        spec: What to build.
        wheel_bytes: What the wheels come to, where that is known.
        recipe: Another Dockerfile than the one that came with this package.

    Raises:
        ImageError: There is no lock for the torch build.
    """
    (recipe or shipped_recipe()).lock(spec.torch_build)
    size = "" if wheel_bytes is None else f", {wheel_bytes / 1e6:.0f} MB"
    model = spec.model
    amount = f"{model.weight_bytes:,} bytes" if model.exact else f"about {model.weight_bytes / 1e9:.1f} GB"
    return (
        PlannedStep("base image", spec.base_image),
        PlannedStep("packages", f"{len(spec.wheels)} wheels{size}, by hash from the lock {spec.torch_build}"),
        PlannedStep("model", f"{model.id}: {len(model.files)} files, {amount}, verified"),
        PlannedStep("application", f"runtime {__version__}"),
        PlannedStep("image", f"{spec.tag}, loaded into the Docker engine"),
    )


def require_engine() -> None:
    """See that images can be built here, before much is fetched for one.

    Raises:
        ImageError: There is no engine, or it is too old, or buildx is missing.
    """
    with connect() as engine:
        check_age(engine.info())
    find_buildx()


def build(
    spec: ImageSpec,
    on_line: Callable[[str], None],
    *,
    recipe: Recipe | None = None,
    scratch: Path | None = None,
    timeout: float | None = None,
) -> Built:
    """Build the image and load it into the engine; `on_line` gets each line of progress.

    Interrupted, it ends the build and tags nothing; what was built is kept for the next time.

    Args:
        spec: What to build.
        on_line: Called with each line of progress, free of passwords.
        recipe: Another Dockerfile than the one that came with this package.
        scratch: Where the inputs are put together: on the disk of the wheels and the model they are links, not copies.
        timeout: Seconds after which to give up.

    Raises:
        ImageError: The image cannot be built; the message says why, the hint what to do.
    """
    began = time.monotonic()
    recipe = recipe or shipped_recipe()
    with connect() as engine, tempfile.TemporaryDirectory(prefix="i2v-image-", dir=scratch) as inputs:
        check_age(engine.info())
        buildx = find_buildx()
        arguments = _arguments(spec, recipe, buildx, Path(inputs))
        gathered = time.monotonic() - began
        progress = Progress(on_line)
        _run(arguments, progress, timeout)
        spent = time.monotonic() - began - gathered
        image = engine.image((Path(inputs) / "image-id").read_text(encoding="ascii"))
    followed = progress.phases() or (Phase("build", 0.0, spent, spent),)
    return Built(
        image.id,
        image.size,
        (
            Phase("inputs", 0.0, gathered, gathered),
            *(replace(phase, started=gathered + phase.started) for phase in followed),
        ),
    )


def _arguments(spec: ImageSpec, recipe: Recipe, buildx: Buildx, scratch: Path) -> list[str]:
    """The build's command line, with everything that it names put into `scratch`."""
    lock = recipe.lock(spec.torch_build)
    place_wheels(spec.wheels, scratch / "wheels")
    place_model(spec.model, spec.model_dir, scratch / "weights")
    options = [
        f"--file={recipe.dockerfile}",
        f"--progress={buildx.progress}",
        f"--tag={spec.tag}",
        f"--iidfile={scratch / 'image-id'}",
        "--load",
        "--provenance=false",
        f"--build-arg=BASE_IMAGE={spec.base_image}",
        f"--build-arg=TORCH_BUILD={spec.torch_build}",
        f"--build-arg=MODEL_ID={spec.model.id}",
        "--build-arg=PACKAGES=wheels",
        "--network=none",
        f"--build-context=wheels={scratch / 'wheels'}",
        f"--build-context=weights={scratch / 'weights'}",
        *(f"--label={name}={value}" for name, value in _labels(spec, lock).items()),
    ]
    return [buildx.docker, "buildx", "build", *options, str(recipe.context)]


def _labels(spec: ImageSpec, lock: Path) -> dict[str, str]:
    """What only we know of the image; the Dockerfile adds what it knows itself."""
    return {
        "org.opencontainers.image.version": __version__,
        "i2v-setup.model": spec.model.id,
        "i2v-setup.model.digest": f"sha256:{spec.model.digest}",
        "i2v-setup.model.licence": spec.model.licence or "not named by its publisher",
        "i2v-setup.lock": spec.torch_build,
        "i2v-setup.lock.digest": f"sha256:{hashlib.sha256(lock.read_bytes()).hexdigest()}",
    }


def _run(arguments: list[str], progress: Progress, timeout: float | None) -> None:
    """Run a build to its end, or end it with us."""
    with _process(arguments) as process, _deadline(process, timeout) as passed:
        assert process.stdout
        for line in process.stdout:
            progress.feed(line)
        code = process.wait()
    if code == 0:
        return
    if passed.is_set():
        raise ImageError(f"the build was given up after {timeout:.0f} s", "build again: what was built is kept")
    raise explain(progress.failure())


@contextmanager
def _deadline(process: subprocess.Popen[str], seconds: float | None) -> Iterator[threading.Event]:
    """Ends the process after `seconds`, if it still runs; the event tells that it did."""
    passed = threading.Event()

    def give_up() -> None:
        passed.set()
        _end(process)

    timer = threading.Timer(seconds or 0, give_up)
    if seconds:
        timer.start()
    try:
        yield passed
    finally:
        timer.cancel()


@contextmanager
def _process(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, so that Ctrl-C reaches us alone and we end all of it."""
    with subprocess.Popen(
        arguments,
        env={name: value for name, value in os.environ.items() if name not in hub_token.VARIABLES},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt what still runs, and kill what does not heed that."""
    for number, patience in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(patience)
