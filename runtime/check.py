"""Whether an environment can make videos: its modules import, its model loads, a tiny video is made.

    python -m runtime.check --model-dir DIR --model-id M

Says what it does as JSON lines on stdout (`runtime.progress`). Knows nothing of how the environment was built.
"""

import argparse
import importlib
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import progress
from runtime.models import ModelSpec, model
from runtime.options import GenerationRequest
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
    "transformers": "transformers",
    "accelerate": "accelerate",
    "diffusers": "diffusers",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
}


def main() -> int:
    """Runs the program and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime.check", description="Verify an environment.")
    parser.add_argument("--model-id", default="demo")
    parser.add_argument("--model-dir", type=Path, required=True)
    arguments = parser.parse_args()
    return progress.run(lambda events: _check(model(arguments.model_id), arguments.model_dir, events))


def _check(spec: ModelSpec, model_dir: Path, events: progress.Progress) -> None:
    hush()
    with events.phase("imports"):
        for name, distribution in _MODULES.items():
            _import(name, distribution)
        from runtime.pipeline import Engine, device_name
    with events.phase("load"):
        engine = Engine.load(spec, model_dir)
    with events.phase("generation"):
        _make_tiny_video(engine, events)
    versions = {distribution: version(distribution) for distribution in _MODULES.values()}
    device = device_name(engine.device)
    events.emit("done", model=spec.id, device=device, versions=versions, seconds=round(events.seconds, 3))


def _import(name: str, distribution: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken library raises what it likes
        reason = " ".join(str(error).split())[:300]
        raise RuntimeProblem(
            f"cannot import {name} (from {distribution}): {type(error).__name__}: {reason}",
            "build the environment again",
        ) from error


def _make_tiny_video(engine: "Engine", events: progress.Progress) -> None:
    from PIL import Image

    from runtime.video import write_mp4

    request = GenerationRequest(
        prompt="a check",
        negative_prompt="",
        width=64,
        height=64,
        num_frames=4,
        num_inference_steps=2,
        guidance_scale=9.0,
        fps=8,
        seed=0,
    )
    picture = Image.linear_gradient("L").convert("RGB")
    frames = engine.generate(picture, request, events.step).frames
    with tempfile.TemporaryDirectory() as directory:
        write_mp4(Path(directory, "check.mp4"), frames, engine.spec, request)


if __name__ == "__main__":
    progress.leave(main())
