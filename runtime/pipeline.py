"""The engine: turns pictures into frames with one loaded model.

Every family goes through one call; what differs between families is its row in `runtime.families`. With
`runtime.device` and `runtime.loading` one of the three modules that touch torch. Knows nothing of files to write, of
processes, queues or HTTP, or of what fits: it is told (`runtime.memory`).
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from runtime import loading
from runtime.device import choose_device, measured_peak, release, resident_size
from runtime.families import FAMILIES
from runtime.footprint import Knobs, Residency
from runtime.models import Arithmetic, ModelSpec
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem
from runtime.shapes import check_makes

Frames = npt.NDArray[np.uint8]
#: Told the step and the number of steps after each; may raise `Cancelled`.
OnStep = Callable[[int, int], None]

#: A frame whose values lie closer together than this (of 255), in each colour, shows nothing.
_FLAT = 3
#: The blocks inside these look along the frames, and not over the picture.
_TEMPORAL = ("TransformerTemporalModel", "AnimateDiffTransformer3D")
#: Those inside these look over the picture; SVD's also hold blocks along the frames, which see to that by themselves.
_SPATIAL = ("Transformer2DModel", "TransformerSpatioTemporalModel")


class EngineProblem(RuntimeProblem):
    """What the model made is not a video."""


class OutOfMemory(EngineProblem):
    """The device had less memory than the call took."""


class Cancelled(Exception):
    """Raised out of `on_step` to stop a generation at that step."""


@dataclass(frozen=True)
class Videos:
    """What one call made.

    Attributes:
        videos: For each request its frames, of shape (frames, height, width, 3), or why there are none.
        denoise_seconds: From the call to the end of the last step.
        decode_seconds: From there to the frames.
        peak_bytes: The most memory that the call held beside the weights; 0 where that cannot be told.
    """

    videos: tuple[Frames | EngineProblem, ...]
    denoise_seconds: float
    decode_seconds: float
    peak_bytes: int

    @property
    def frames(self) -> Frames:
        """Those of the only request.

        Raises:
            EngineProblem: There are none.
        """
        (video,) = self.videos
        if isinstance(video, EngineProblem):
            raise video
        return video


class Engine:
    """One loaded model on one device. One call at a time: two at once would silently mix their frames."""

    def __init__(
        self, spec: ModelSpec, pipeline: Any, device: torch.device, precision: Arithmetic, residency: Residency
    ) -> None:
        self.spec = spec
        self.device = device
        self.precision = precision
        self.residency = residency
        self._pipeline = pipeline
        self._at_rest = resident_size()

    @classmethod
    def load(
        cls,
        spec: ModelSpec,
        directory: Path,
        precision: Arithmetic | None = None,
        residency: Residency | None = None,
        *,
        compiled: bool = False,
    ) -> "Engine":
        """Loads the model from a local directory onto the first GPU, or the CPU; see `runtime.loading.load`.

        Args:
            spec: The model.
            directory: What its manifest lists.
            precision: What to compute in; None takes what suits the device.
            residency: Where the weights wait; None: where the arithmetic is done.
            compiled: Whether to compile the denoiser's blocks.

        Raises:
            ModelMissing: The directory does not hold the model.
            LoadProblem: What it holds cannot be loaded.
        """
        device, residency = choose_device(), residency or Residency()
        precision = precision or loading.compute_precision(spec, device)
        pipeline = loading.load(spec, directory, device, precision, residency, compiled=compiled)
        return cls(spec, pipeline, device, precision, residency)

    def generate(
        self, picture: Image.Image, request: GenerationRequest, on_step: OnStep, knobs: Knobs | None = None
    ) -> Videos:
        """Makes one video; see `generate_together`."""
        return self.generate_together([picture], [request], on_step, knobs)

    def generate_together(
        self,
        pictures: Sequence[Image.Image],
        requests: Sequence[GenerationRequest],
        on_step: OnStep,
        knobs: Knobs | None = None,
    ) -> Videos:
        """Makes the frames of several videos in one call, each as if it were alone.

        The same picture, request and device give the same frames.

        Args:
            pictures: Of any mode and size; the middle of each is cut to the shape of the video.
            requests: What to make, one for each picture; they differ in prompts and seeds alone; one
                alone if it is `fast`.
            on_step: Told of each step; raises Cancelled to stop.
            knobs: How the call saves memory; None: not at all.

        Raises:
            InvalidOption: The model does not make videos of that size or length.
            OutOfMemory: The memory ran out; it was given back.
            EngineProblem: The model made another number or size of frames than it was asked for.
            Cancelled: `on_step` raised it.
        """
        shape, knobs = requests[0], knobs or Knobs()
        check_makes(self.spec, shape.width, shape.height, shape.num_frames, shape.num_inference_steps, fast=shape.fast)
        fitted = [
            ImageOps.fit(picture.convert("RGB"), (shape.width, shape.height), Image.Resampling.LANCZOS)
            for picture in pictures
        ]
        steps = _Steps(on_step, self.device)
        self._pipeline.progress_bar = steps  # the one hook that all of diffusers' video pipelines share
        made = [replace(request, num_inference_steps=request.steps_of(self.spec)) for request in requests]
        arguments = FAMILIES[self.spec.family].arguments(fitted, made, knobs)
        arguments["generator"] = self._seed([request.seed for request in requests])
        self._turn(knobs)
        started = time.monotonic()
        try:
            with measured_peak(self.device, self._at_rest) as peak, self._arithmetic(), self._approximation(shape):
                videos = self._pipeline(**arguments, output_type="np").frames
        except torch.OutOfMemoryError:
            pass  # what the call held is let go of only outside of the handler, with the traceback
        else:
            ended = time.monotonic()
            checked = tuple(_checked(video, request) for video, request in zip(videos, requests, strict=True))
            return Videos(checked, steps.ended - started, ended - steps.ended, peak.bytes)
        release(self.device)
        raise OutOfMemory(
            f"{shape.width}x{shape.height} with {shape.num_frames} frames took more memory than there is",
            "ask for a smaller size or fewer frames",
        )

    def _seed(self, seeds: Sequence[int]) -> Any:
        """The generators of the call. Some pipelines draw from torch's global generator too: it is seeded as well."""
        torch.manual_seed(seeds[0])
        self._pipeline.seeds = seeds
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return generators[0] if len(generators) == 1 else generators

    def _turn(self, knobs: Knobs) -> None:
        vae = self._pipeline.vae
        if hasattr(vae, "use_tiling"):  # SVD's has no tiles
            (vae.enable_tiling if knobs.tiling else vae.disable_tiling)()
        if hasattr(vae, "use_framewise_decoding"):  # tiles in time too, without which LTX is spared little
            vae.use_framewise_decoding = knobs.tiling
        denoiser = getattr(self._pipeline, FAMILIES[self.spec.family].denoiser)
        for module in denoiser.modules():
            if type(module).__name__ in _TEMPORAL:
                _chunk_feed_forward(module, 1 if knobs.forward_chunking else None, dim=1)
            elif type(module).__name__ in _SPATIAL:
                _chunk_feed_forward(module, 1 if knobs.forward_chunking else None, dim=0)

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision != "autocast":
            return contextlib.nullcontext()
        narrower: contextlib.AbstractContextManager[Any] = torch.autocast(
            self.device.type, dtype=loading.DTYPES[self.spec.precision]
        )
        return narrower

    def _approximation(self, request: GenerationRequest) -> contextlib.AbstractContextManager[None]:
        fast = FAMILIES[self.spec.family].fast if request.fast else None
        return fast.held(self._pipeline) if fast else contextlib.nullcontext()


class _Steps:
    """Stands in for diffusers' progress bar: passes each step on, and notes when the last one ended."""

    def __init__(self, on_step: OnStep, device: torch.device) -> None:
        self._on_step = on_step
        self._device = device
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
        if self._step == self._steps and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the steps were only asked for; what comes next is decoding
        self.ended = time.monotonic()
        self._on_step(self._step, self._steps)


def _chunk_feed_forward(module: torch.nn.Module, size: int | None, dim: int) -> None:
    """Has the blocks inside work on one frame at a time, which is where their inner layers are widest."""
    for block in module.modules():
        if hasattr(block, "set_chunk_feed_forward"):
            block.set_chunk_feed_forward(size, dim=dim)


def _checked(video: npt.NDArray[np.floating[Any]], request: GenerationRequest) -> Frames | EngineProblem:
    """The frames as bytes, if they are the video that was asked for, and a video at all; else what they are."""
    if video.shape[:3] != (request.num_frames, request.height, request.width):
        return EngineProblem(
            f"the model made {video.shape[0]} frames of {video.shape[2]}x{video.shape[1]}, "
            f"not {request.num_frames} of {request.width}x{request.height}",
            "ask for another size or number of frames",
        )
    frames = np.empty(video.shape, np.uint8)
    for index, frame in enumerate(video):  # one by one: all at once would take several times the room of the video
        if not np.isfinite(frame).all():
            return EngineProblem(
                "the model made values that are not numbers (NaN), so there is no video",
                "try another seed or a lower guidance scale; if it stays, the weights or their precision are wrong",
            )
        frames[index] = (frame * 255).round().clip(0, 255)
        if np.ptp(frames[index], axis=(0, 1)).max() < _FLAT:
            return EngineProblem(
                f"frame {index + 1} of {len(frames)} is one flat colour, so there is no video", "try another seed"
            )
    return frames
