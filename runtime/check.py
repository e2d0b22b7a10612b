"""Whether an environment can make videos: its files are there, its modules import, its model loads and makes a video.

    python -m runtime.check --model-dir DIR --model-id M [--read-packages] [--read-weights]

Says what it does as JSON lines on stdout (`runtime.progress`), and two kinds more: `read`, how far the reading again of
files is, and `damaged`, a file of the model that is not what was installed. What is broken is named: the package and
its file, the shared library, the file of the model. Knows nothing of how the environment was built.
"""

import argparse
import importlib
import re
import tempfile
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import intact, progress
from runtime.intact import Damage
from runtime.models import ModelSpec, installed
from runtime.options import smallest_request
from runtime.problems import RuntimeProblem
from runtime.quiet import hush

if TYPE_CHECKING:
    from runtime.pipeline import Engine

#: Module to import, and the distribution that it comes from.
_MODULES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "av": "av",
    "safetensors": "safetensors",
    "torch": "torch",
    "sentencepiece": "sentencepiece",
    "google.protobuf": "protobuf",
    "prometheus_client": "prometheus-client",
    "ftfy": "ftfy",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "diffusers": "diffusers",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
}
_REBUILD = "build the environment again: i2v-setup install --rebuild"
_LIBRARY = re.compile(r"(?<![\w./+-])(lib[\w.+-]*\.so[\w.]*)[^:]*: cannot open shared object file")
_SHOWN = 3  # damaged files that are named in one message


def main() -> int:
    """Runs the program and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime.check", description="Verify an environment.")
    parser.add_argument("--model-id", default="demo")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--read-packages", action="store_true", help="read the files of all packages again")
    parser.add_argument("--read-weights", action="store_true", help="read the files of the model again")
    arguments = parser.parse_args()
    return progress.run(lambda events: _check(arguments, events))


def _check(arguments: argparse.Namespace, events: progress.Progress) -> None:
    hush()
    spec = installed(arguments.model_id, arguments.model_dir)
    with events.phase("files"):
        _check_packages(events, read=arguments.read_packages)
        _check_model(spec, arguments.model_dir, events, read=arguments.read_weights)
    with events.imports():
        for name, distribution in _MODULES.items():
            _import(name, distribution)
        from runtime.device import device_name
        from runtime.pipeline import Engine
    with events.phase("load"):
        engine = Engine.load(spec, arguments.model_dir)
    with events.phase("generation"):
        _make_tiny_video(engine, events)
    versions = {distribution: version(distribution) for distribution in _MODULES.values()}
    device = device_name(engine.device)
    events.emit("done", model=spec.id, device=device, versions=versions, seconds=round(events.seconds, 3))


def _check_packages(events: progress.Progress, *, read: bool) -> None:
    files = intact.package_files()
    wrong = intact.damaged(files) or (intact.changed(files, _telling(events)) if read else [])
    if wrong:
        owners = ", ".join(dict.fromkeys(damage.file.owner for damage in wrong))
        raise RuntimeProblem(f"the package {owners} is damaged: {_named(wrong)}", _REBUILD)


def _check_model(spec: ModelSpec, model_dir: Path, events: progress.Progress, *, read: bool) -> None:
    files = intact.model_files(spec, model_dir)
    wrong = intact.damaged(files) or (intact.changed(files, _telling(events)) if read else [])
    if wrong:
        for damage in wrong:
            events.emit("damaged", file=damage.file.name)
        raise RuntimeProblem(
            f"the model {spec.id} is damaged: {_named(wrong)}",
            f"fetch what is wrong again: i2v-setup install --model {spec.id}",
        )


def _telling(events: progress.Progress) -> intact.OnRead:
    def tell(file: str, done: int, total: int) -> None:
        events.emit("read", file=file, bytes=done, total=total)

    return tell


def _named(wrong: Sequence[Damage]) -> str:
    more = f", and {len(wrong) - _SHOWN} files more" if len(wrong) > _SHOWN else ""
    return "; ".join(f"{damage.file.name} {damage.reason}" for damage in wrong[:_SHOWN]) + more


def _import(name: str, distribution: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken library raises what it likes
        raise _broken(name, distribution, error) from error


def _broken(name: str, distribution: str, error: Exception) -> RuntimeProblem:
    """Which package, module or library it is that keeps a module from being imported."""
    reason = " ".join(str(error).split())[:300]
    if library := _LIBRARY.search(reason):
        return RuntimeProblem(
            f"cannot import {name} (from {distribution}): the shared library {library[1]} is not there",
            f"where it is a part of a package, {_REBUILD}; else install it with the system's package manager",
        )
    lacking = error.name if isinstance(error, ModuleNotFoundError) else None
    if lacking and lacking.partition(".")[0] != name.partition(".")[0]:
        owners = packages_distributions().get(lacking.partition(".")[0], ["no package that is installed"])
        return RuntimeProblem(
            f"cannot import {name} (from {distribution}): the module {lacking} is not there (of {', '.join(owners)})",
            _REBUILD,
        )
    return RuntimeProblem(
        f"cannot import {name} (from {distribution}): {type(error).__name__}: {reason}",
        _REBUILD,
    )


def _make_tiny_video(engine: "Engine", events: progress.Progress) -> None:
    from PIL import Image

    from runtime.video import write_video

    request = smallest_request(engine.spec)
    picture = Image.linear_gradient("L").convert("RGB")
    frames = engine.generate(picture, request, events.step).frames
    with tempfile.TemporaryDirectory() as directory:
        write_video(Path(directory, "check.mp4"), frames, engine.spec, request)


if __name__ == "__main__":
    progress.leave(main())
