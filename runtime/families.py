"""The families of models: one row each, for the shapes it makes, how its pipeline is called, what needs mending.

Standard library alone at import, so that options are checked without torch. What only holds for one model of a
family stands in `runtime.models`. Knows nothing of directories, devices or precision, apart from the exceptions that
a family makes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.approximations import BLOCK_CACHE, EDM_DPM, UNIPC, Approximation

if TYPE_CHECKING:
    from PIL import Image

    from runtime.footprint import Knobs
    from runtime.options import GenerationRequest

    Pictures = Sequence[Image.Image]
    Requests = Sequence[GenerationRequest]

_T = TypeVar("_T")

MAX_SIDE = 2048
#: How far AnimateDiff may leave the still; the pipeline's own default (see `_animatediff`).
_STRENGTH = 0.8


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        pipeline: The diffusers class that loads the directory.
        arguments: What the pipeline is called with for pictures, cut to size, and their requests, which are of one
            shape (`Job.goes_with`), and for the knobs of the call.
        side_step: Sides are multiples of this.
        sizes: The only widths and heights that it makes; empty: all that `side_step` allows.
        frame_step: Frame counts are one more than a multiple of this.
        most_frames: The largest frame count.
        least_frames: The smallest one.
        least_steps: The smallest number of denoising steps.
        fps: The frame rate that it learnt, where the presets' does not suit it.
        guidance_scale: Its own, where the presets' does not suit it.
        mend: What must be changed in the loaded pipeline.
        denoiser: The part that works at every step.
        blocks: The classes of its parts that are alike, which are compiled one by one.
        batches: Whether one call makes several videos, each as if it were alone: to 1e-5 of a pixel's range.
        fast: What a request for `fast` changes; None: there is nothing to change.
        parts: Folders that the model's index does not name, and the diffusers class of each.
        fp32_parts: What is computed in fp32, whatever the rest is.
    """

    pipeline: str
    arguments: "Callable[[Pictures, Requests, Knobs], dict[str, Any]]"
    side_step: int
    most_frames: int
    least_frames: int = 1
    least_steps: int = 1
    sizes: tuple[tuple[int, int], ...] = ()
    frame_step: int = 1
    fps: int | None = None
    guidance_scale: float | None = None
    mend: Callable[[Any], None] = lambda _: None
    denoiser: str = "unet"
    blocks: tuple[str, ...] = ()
    batches: bool = True
    fast: Approximation | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    fp32_parts: tuple[str, ...] = ()

    def steps(self, asked: int, *, fast: bool) -> int:
        """How many denoising steps it makes where so many are asked for."""
        return self.fast.steps(asked) if fast and self.fast else asked

    def nearest_frames(self, count: int) -> int:
        """The frame count that it makes and that lies closest to `count`."""
        count = min(max(count, self.least_frames), self.most_frames)
        return round((count - 1) / self.frame_step) * self.frame_step + 1

    def fewest_frames(self, count: int) -> int:
        """The smallest frame count that it makes and that is at least `count`."""
        return math.ceil((max(count, self.least_frames) - 1) / self.frame_step) * self.frame_step + 1

    def nearest_side(self, side: int) -> int:
        """The side that it makes and that lies closest to `side`."""
        return max(round(min(side, MAX_SIDE) / self.side_step), 1) * self.side_step


def _one_or_all(values: "Sequence[_T]") -> "_T | list[_T]":
    """What a pipeline is given for one video, or for several in one call."""
    return values[0] if len(values) == 1 else list(values)


def _prompted(pictures: "Pictures", requests: "Requests", _knobs: "Knobs") -> dict[str, Any]:
    """What all families take that follow a picture and a prompt."""
    shape = requests[0]
    return {
        "prompt": _one_or_all([request.prompt for request in requests]),
        "negative_prompt": _one_or_all([request.negative_prompt for request in requests]),
        "image": _one_or_all(pictures),
        "width": shape.width,
        "height": shape.height,
        "num_frames": shape.num_frames,
        "num_inference_steps": shape.num_inference_steps,
        "guidance_scale": shape.guidance_scale,
    }


def _i2vgen_xl(pictures: "Pictures", requests: "Requests", knobs: "Knobs") -> dict[str, Any]:
    return {
        **_prompted(pictures, requests, knobs),
        "target_fps": requests[0].fps,
        "decode_chunk_size": knobs.decode_at_once,
    }


def _svd(pictures: "Pictures", requests: "Requests", knobs: "Knobs") -> dict[str, Any]:
    shape = requests[0]
    return {
        "image": _one_or_all(pictures),
        "width": shape.width,
        "height": shape.height,
        "num_frames": shape.num_frames,
        "num_inference_steps": shape.num_inference_steps,
        "max_guidance_scale": shape.guidance_scale,
        "fps": shape.fps,
        "decode_chunk_size": knobs.decode_at_once,
    }


def _animatediff(pictures: "Pictures", requests: "Requests", knobs: "Knobs") -> dict[str, Any]:
    """AnimateDiff knows no pictures: video-to-video on the still, repeated.

    The other way is an IP-Adapter. It puts CLIP's summary of the picture into the cross-attention: what the picture
    shows comes back, but not its layout, nor who it is (I2V-Adapter, arXiv:2312.16693, says so of all methods of that
    kind), and its image encoder is 2.5 GB more. The still gives every frame the picture's own layout and colours for
    nothing; others animate pictures so as well (leejet/stable-diffusion.cpp#1789, at 0.75). Below a high strength it
    hardly moves (huggingface/diffusers#6328). Tried with random weights: both run, and at 0.8 the frames differ less
    than half as much from one another as the IP-Adapter's. What real weights look like was not judged.
    """
    arguments = _prompted(pictures, requests, knobs)
    del arguments["image"], arguments["num_frames"]
    return {
        **arguments,
        "video": _one_or_all([[picture] * requests[0].num_frames for picture in pictures]),
        "strength": _STRENGTH,
        "enforce_inference_steps": True,  # as many steps as were asked for, not that share of them
        "decode_chunk_size": knobs.decode_at_once,
    }


def _ltx(pictures: "Pictures", requests: "Requests", knobs: "Knobs") -> dict[str, Any]:
    return {**_prompted(pictures, requests, knobs), "frame_rate": requests[0].fps}


def _mend_i2vgen_xl(pipeline: Any) -> None:
    """Gives CLIPTextModel back the `text_model` that I2VGenXLPipeline asks for, and each picture its own noise.

    transformers 5.6 flattened the class and diffusers 0.42.1 does not know (huggingface/diffusers#14124).
    A property of the class adds no submodule, so the weights' names stay.
    """
    from transformers import CLIPTextModel

    if not hasattr(CLIPTextModel, "text_model"):
        CLIPTextModel.text_model = property(lambda self: self)
    pipeline.prepare_image_latents = partial(_latents_of_each, pipeline, pipeline.prepare_image_latents)


def _latents_of_each(pipeline: Any, prepare: Callable[..., Any], image: Any, **settings: Any) -> Any:
    """The latents of every picture as if it were alone: their noise comes from torch's global generator.

    `pipeline.seeds` has the seed of each (`runtime.pipeline`).
    """
    import torch

    copies = 2 if pipeline.do_classifier_free_guidance else 1  # the pipeline puts all of them behind each other
    made = []
    for one, seed in zip(image.split(1), pipeline.seeds, strict=True):
        torch.manual_seed(seed)
        made.append(prepare(one, **settings)[:1])
    return torch.cat(made * copies)


def _mend_animatediff(pipeline: Any) -> None:
    """The noise schedule that the motion module learnt, which is not its base model's; and one copy of it is enough."""
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config,
        beta_schedule="linear",
        clip_sample=False,
        timestep_spacing="linspace",
        steps_offset=1,
    )
    pipeline.register_modules(motion_adapter=None)  # its weights were copied into the UNet


# Sides: 8 from the VAE times 8 from the three halvings of a UNet; VAE times patch for the transformers.
FAMILIES: Mapping[str, Family] = {
    "i2vgen-xl": Family(
        "I2VGenXLPipeline",
        _i2vgen_xl,
        side_step=64,
        most_frames=64,
        mend=_mend_i2vgen_xl,
        fast=UNIPC,
        blocks=("BasicTransformerBlock",),
    ),
    "svd": Family(
        "StableVideoDiffusionPipeline",
        _svd,
        side_step=64,
        most_frames=64,
        least_frames=2,  # its guidance grows over the frames; over a single one it fails
        guidance_scale=3.0,
        blocks=("BasicTransformerBlock", "TemporalBasicTransformerBlock"),
        batches=False,  # not to 1e-5
        fast=EDM_DPM,
    ),
    "animatediff": Family(
        "AnimateDiffVideoToVideoPipeline",
        _animatediff,
        side_step=64,
        most_frames=32,  # the motion module has no position beyond
        guidance_scale=7.5,
        mend=_mend_animatediff,
        fast=UNIPC,
        parts={"motion_adapter": "MotionAdapter"},
        blocks=("BasicTransformerBlock",),
    ),
    "wan": Family(
        "WanImageToVideoPipeline",
        _prompted,
        side_step=32,
        frame_step=4,
        most_frames=121,
        least_frames=5,  # the first latent frame is the picture itself
        fps=24,
        guidance_scale=5.0,
        fp32_parts=("vae",),
        denoiser="transformer",
        blocks=("WanTransformerBlock",),
        batches=False,  # its pipeline takes one picture
        fast=BLOCK_CACHE,
    ),
    "ltx": Family(
        "LTXImageToVideoPipeline",
        _ltx,
        side_step=32,
        frame_step=8,
        most_frames=257,
        least_frames=9,  # the first latent frame is the picture itself
        least_steps=2,  # its schedule divides by zero at one
        fps=24,
        guidance_scale=3.0,
        denoiser="transformer",
        blocks=("LTXVideoTransformerBlock",),
        fast=BLOCK_CACHE,
    ),
    "cogvideox": Family(
        "CogVideoXImageToVideoPipeline",
        _prompted,
        side_step=16,
        sizes=((720, 480),),  # its positions are learnt, for this size alone
        frame_step=8,  # 4 would do for the denoiser, but the decoder makes 8 frames of two latent ones: 5 become 8
        most_frames=49,
        fps=8,
        guidance_scale=6.0,
        denoiser="transformer",
        blocks=("CogVideoXBlock",),
        batches=False,  # not to 1e-5
        fast=BLOCK_CACHE,
    ),
}
