"""The engine: loads one model and turns a picture into frames. The only module that touches torch or a GPU.

Every family goes through one loader and one call; what differs between families is its row in `runtime.families`.
Knows nothing of files to write, of processes, queues or HTTP.

Precision. Weights lie on disk in the model's own precision (fp16 or bf16) or in a wider one. On a GPU they are
computed in the model's own. A CPU has no fast 16-bit arithmetic (the demo model took thirty times as long), so there
they are widened to fp32 as they are loaded. `compute_dtype` is the one place that decides.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from runtime.families import FAMILIES
from runtime.models import ModelSpec, Precision
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem
from runtime.shapes import check_makes

Frames = npt.NDArray[np.uint8]
#: Told the step and the number of steps after each; may raise `Cancelled`.
OnStep = Callable[[int, int], None]

#: A frame whose values lie closer together than this (of 255), in each colour, shows nothing.
_FLAT = 3

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class EngineProblem(RuntimeProblem):
    """The model cannot be loaded, or what it made is not a video."""


class Cancelled(Exception):
    """Raised out of `on_step` to stop a generation at that step."""


@dataclass(frozen=True)
class Generated:
    """Frames of shape (frames, height, width, 3), and the seconds that their two phases took."""

    frames: Frames
    denoise_seconds: float
    decode_seconds: float


class Engine:
    """One loaded model on one device. One call at a time: two at once would silently mix their frames."""

    def __init__(self, spec: ModelSpec, pipeline: Any, device: torch.device) -> None:
        self.spec = spec
        self.device = device
        self._pipeline = pipeline

    @classmethod
    def load(cls, spec: ModelSpec, directory: Path, precision: Precision | None = None) -> "Engine":
        """Loads the model from a local directory: safetensors only, nothing from the network, no code that lies there.

        Args:
            spec: The model.
            directory: What its manifest lists.
            precision: What to compute in; None takes what suits the device.

        Raises:
            ModelMissing: The directory does not hold the model.
            EngineProblem: What it holds cannot be loaded.
        """
        spec.check(directory)
        device = choose_device()
        try:
            pipeline = _load(spec, directory, _DTYPES[precision] if precision else compute_dtype(spec, device))
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise EngineProblem(f"cannot load the model {spec.id}: {_one_line(error)}", "install it again") from error
        return cls(spec, pipeline.to(device), device)

    def generate(self, picture: Image.Image, request: GenerationRequest, on_step: OnStep) -> Generated:
        """Makes the frames of one video. The same picture, request and device give the same frames.

        Args:
            picture: Of any mode and size; its middle is cut to the shape of the video.
            request: What to make.
            on_step: Told of each step; raises Cancelled to stop.

        Raises:
            InvalidOption: The model does not make videos of that size or length.
            EngineProblem: Out of memory, or the frames are not as many as asked for, NaN, black or flat.
            Cancelled: `on_step` raised it.
        """
        check_makes(self.spec, request.width, request.height, request.num_frames, request.num_inference_steps)
        fitted = ImageOps.fit(picture.convert("RGB"), (request.width, request.height), Image.Resampling.LANCZOS)
        steps = _Steps(on_step)
        self._pipeline.progress_bar = steps  # the one hook that all of diffusers' video pipelines share
        # The pipelines draw from torch's global generator too (the VAE's sampling does), so it is seeded as well.
        torch.manual_seed(request.seed)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        started = time.monotonic()
        try:
            arguments = FAMILIES[self.spec.family].arguments(fitted, request)
            video = self._pipeline(**arguments, generator=generator, output_type="np").frames[0]
        except torch.OutOfMemoryError:
            raise EngineProblem(
                f"{request.width}x{request.height} with {request.num_frames} frames does not fit the memory of "
                f"{device_name(self.device)}",
                "ask for a smaller size or fewer frames",
            ) from None
        ended = time.monotonic()
        return Generated(_checked(video, request), steps.ended - started, ended - steps.ended)


def choose_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"


def compute_dtype(spec: ModelSpec, device: torch.device) -> torch.dtype:
    """What the model is computed in: its own precision on a GPU, fp32 on a CPU."""
    if device.type == "cpu":
        return torch.float32
    return _DTYPES[spec.precision]


def _load(spec: ModelSpec, directory: Path, dtype: torch.dtype) -> Any:
    family = FAMILIES[spec.family]
    files = {
        "variant": "fp16" if spec.precision == "fp16" else None,  # how published files of that precision are named
        "use_safetensors": True,
        "local_files_only": True,
    }
    parts = {
        name: getattr(diffusers, kind).from_pretrained(directory / name, dtype=dtype, **files)
        for name, kind in family.parts.items()
    }
    dtypes = {"default": dtype, **dict.fromkeys(family.fp32_parts, torch.float32)}
    pipeline = getattr(diffusers, family.pipeline).from_pretrained(directory, dtype=dtypes, **parts, **files)
    family.mend(pipeline)
    return pipeline


class _Steps:
    """Stands in for diffusers' progress bar: passes each step on, and notes when the last one ended."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._step = self._steps = 0
        self.ended = time.monotonic()

    def __call__(self, *_: object, total: int = 0) -> "_Steps":
        self._steps = total
        return self

    def __enter__(self) -> "_Steps":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        self._step += n
        self.ended = time.monotonic()
        self._on_step(self._step, self._steps)


def _checked(video: npt.NDArray[np.floating[Any]], request: GenerationRequest) -> Frames:
    """The frames as bytes, if they are the video that was asked for, and a video at all."""
    if video.shape[:3] != (request.num_frames, request.height, request.width):
        raise EngineProblem(
            f"the model made {video.shape[0]} frames of {video.shape[2]}x{video.shape[1]}, "
            f"not {request.num_frames} of {request.width}x{request.height}",
            "ask for another size or number of frames",
        )
    if not np.isfinite(video).all():
        raise EngineProblem(
            "the model made values that are not numbers (NaN), so there is no video",
            "try another seed or a lower guidance scale; if it stays, the weights or their precision are wrong",
        )
    frames = (video * 255).round().clip(0, 255).astype(np.uint8)
    for index, frame in enumerate(frames):
        if np.ptp(frame, axis=(0, 1)).max() < _FLAT:
            raise EngineProblem(
                f"frame {index + 1} of {len(frames)} is one flat colour, so there is no video", "try another seed"
            )
    return frames


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
