"""One video from one picture, without a server.

    python -m runtime.generate --model-dir DIR --image photo.jpg --out video.mp4 --options JSON [--model-id demo]

The suffix of --out decides the format. Says what it does as JSON lines on stdout (`runtime.progress`). Loads the
model anew each time; knows nothing of queues.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from runtime import progress
from runtime.bounds import InvalidOption
from runtime.formats import format_of
from runtime.memory import decide
from runtime.models import Arithmetic, ModelSpec, installed
from runtime.options import GenerationRequest, build_request
from runtime.problems import RuntimeProblem
from runtime.quiet import hush
from runtime.uploads import open_picture


def main() -> int:
    """Runs the program and returns its exit status."""
    arguments = _arguments()
    return progress.run(lambda events: _generate(arguments, events))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runtime.generate", description="Make one video.")
    parser.add_argument("--model-id", default="demo")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--precision", choices=get_args(Arithmetic), help="what to compute in")
    parser.add_argument(
        "--options",
        default="{}",
        help="build_request's arguments as JSON; the size comes from the picture, the format from --out",
    )
    return parser.parse_args()


def _generate(arguments: argparse.Namespace, events: progress.Progress) -> None:
    # What can be wrong with the input is found out before seconds are spent on imports.
    spec = installed(arguments.model_id, arguments.model_dir)
    spec.check(arguments.model_dir)
    _check_out(arguments.out)
    picture = open_picture(arguments.image)
    request = _request(arguments, spec, picture.size)
    hush()
    with events.imports():
        from runtime.device import choose_device, room
        from runtime.loading import compute_precision
        from runtime.pipeline import Engine
        from runtime.video import write_video
    precision = arguments.precision or compute_precision(spec, choose_device())
    verdict = decide(spec, precision, request, room(choose_device()))
    if not verdict.fits:
        raise RuntimeProblem(verdict.told(request), "ask for what fits, or free memory")
    with events.phase("load"):
        engine = Engine.load(spec, arguments.model_dir, precision, verdict.residency)
    started = events.seconds
    made = engine.generate(picture, request, events.step, verdict.knobs)
    events.phase_ended("denoise", started, made.denoise_seconds)
    events.phase_ended("decode", started + made.denoise_seconds, made.decode_seconds)
    with events.phase("encode"):
        write_video(arguments.out, made.frames, spec, request)
    events.emit(
        "done",
        out=str(arguments.out),
        frames=len(made.frames),
        width=request.width,
        height=request.height,
        seed=request.seed,
        request=asdict(request),
        seconds=round(events.seconds, 3),
    )


def _request(arguments: argparse.Namespace, spec: ModelSpec, picture_size: tuple[int, int]) -> GenerationRequest:
    form = format_of(arguments.out)
    try:
        options = json.loads(arguments.options)
        return build_request(**options, model=spec, picture_size=picture_size, output_format=form.name)
    except (ValueError, TypeError, AttributeError) as error:  # not JSON, an unknown name, another type
        raise InvalidOption(f"the options cannot be used: {error}", "see runtime.options.build_request") from error


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise RuntimeProblem(f"{out} is a directory", "give the path of the video file")
    if not out.parent.is_dir():
        raise RuntimeProblem(f"there is no directory {out.parent}", "make it first, or write elsewhere")


if __name__ == "__main__":
    progress.leave(main())
