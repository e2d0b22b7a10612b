"""The engine: loads one model and turns a picture into frames. The only module that touches torch or a GPU.

Every family goes through one loader and one call; what differs between families is one function in
`_FAMILIES`. Knows nothing of files to write, of processes, queues or HTTP.

Precision. Weights lie on disk in the model's own precision (fp16). On a GPU they are computed in it. A CPU
has no fast fp16 arithmetic (the demo model took thirty times as long), so there they are widened to fp32 as
they are loaded. `compute_dtype` is the one place that decides.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from transformers import CLIPTextModel

from runtime.models import ModelSpec
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem

Frames = npt.NDArray[np.uint8]
#: Told the step and the number of steps after each; may raise `Cancelled`.
OnStep = Callable[[int, int], None]

#: A frame whose values lie closer together than this (of 255), in each colour, shows nothing.
_FLAT = 3


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
    def load(cls, spec: ModelSpec, directory: Path) -> "Engine":
        """Loads the model from a local directory: safetensors only, nothing from the network.

        Raises:
            ModelMissing: The directory does not hold the model.
            EngineProblem: What it holds cannot be loaded.
        """
        spec.check(directory)
        device = choose_device()
        try:
            pipeline = getattr(diffusers, spec.pipeline).from_pretrained(
                directory,
                torch_dtype=compute_dtype(spec, device),
                variant="fp16" if spec.precision == "fp16" else None,
                use_safetensors=True,
                local_files_only=True,
            )
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise EngineProblem(f"cannot load the model {spec.id}: {_one_line(error)}", "install it again") from error
        return cls(spec, pipeline.to(device), device)

    def generate(self, picture: Image.Image, request: GenerationRequest, on_step: OnStep) -> Generated:
        """Makes the frames of one video. The same picture, request and device give the same frames.

        Args:
            picture: RGB, of any size; its middle is cut to the shape of the video.
            request: What to make.
            on_step: Told of each step; raises Cancelled to stop.

        Raises:
            EngineProblem: Out of memory, or the frames are NaN, black or flat.
            Cancelled: `on_step` raised it.
        """
        fitted = ImageOps.fit(picture, (request.width, request.height), Image.Resampling.LANCZOS)
        steps = _Steps(on_step)
        self._pipeline.progress_bar = steps  # the one hook that all of diffusers' video pipelines share
        # The pipelines draw from torch's global generator too (the VAE's sampling does), so it is seeded as well.
        torch.manual_seed(request.seed)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        started = time.monotonic()
        try:
            video = _FAMILIES[self.spec.family](self._pipeline, fitted, request, generator)
        except torch.OutOfMemoryError:
            raise EngineProblem(
                f"{request.width}x{request.height} with {request.num_frames} frames does not fit the memory of "
                f"{device_name(self.device)}",
                "ask for a smaller size or fewer frames",
            ) from None
        ended = time.monotonic()
        return Generated(_checked(video), steps.ended - started, ended - steps.ended)


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
    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[spec.precision]


def _i2vgen_xl(pipeline: Any, picture: Image.Image, request: GenerationRequest, generator: torch.Generator) -> Any:
    _mend_clip_text_model()
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=picture,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        target_fps=request.fps,
        generator=generator,
        output_type="np",
    ).frames[0]


def _svd(pipeline: Any, picture: Image.Image, request: GenerationRequest, generator: torch.Generator) -> Any:
    return pipeline(
        image=picture,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        max_guidance_scale=request.guidance_scale,
        fps=request.fps,
        decode_chunk_size=4,  # left alone it decodes all frames at once: 28 GiB for 25 frames of 576x1024
        generator=generator,
        output_type="np",
    ).frames[0]


_Family = Callable[[Any, Image.Image, GenerationRequest, torch.Generator], Any]

#: How the models of each family are called: frames of shape (frames, height, width, 3) in 0..1.
_FAMILIES: Mapping[str, _Family] = {"i2vgen-xl": _i2vgen_xl, "svd": _svd}


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


def _checked(video: npt.NDArray[np.floating[Any]]) -> Frames:
    """The frames as bytes, if they are a video at all."""
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


def _mend_clip_text_model() -> None:
    """Gives CLIPTextModel back the `text_model` that I2VGenXLPipeline asks for.

    transformers 5.6 flattened the class and diffusers 0.42.1 does not know (huggingface/diffusers#14124).
    A property of the class adds no submodule, so the weights' names stay.
    """
    if not hasattr(CLIPTextModel, "text_model"):
        CLIPTextModel.text_model = property(lambda self: self)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
