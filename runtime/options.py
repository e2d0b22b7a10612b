"""What a generation is asked for: the presets, the bounds, and one checked request.

A `GenerationRequest` that exists is within the bounds of what can be a video at all; whether a model makes it,
`runtime.shapes` says. Standard library only: the command line and the server's parent process use it. Knows nothing
of models' quality or of memory.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from runtime.bounds import Bound, InvalidOption, check_text, check_type
from runtime.families import FAMILIES, MAX_SIDE
from runtime.formats import DEFAULT_FORMAT, FORMATS
from runtime.models import ModelSpec
from runtime.shapes import check_makes, fit_area, frames_in, parse_size

#: What `smallest_request` goes by: enough for every level of a denoiser, and for something to move.
_SMALLEST_SIDE = 64
_FEWEST_FRAMES = 4
MAX_SEED = 2**32 - 1
MAX_PROMPT = 2000

#: What the authors of I2VGen-XL use in their examples.
DEFAULT_NEGATIVE_PROMPT = (
    "Distorted, discontinuous, Ugly, blurry, low resolution, motionless, static, disfigured, "
    "disconnected limbs, Ugly faces, incomplete arms"
)


BOUNDS: Mapping[str, Bound] = {
    "width": Bound(16, MAX_SIDE),
    "height": Bound(16, MAX_SIDE),
    "num_frames": Bound(1, max(family.most_frames for family in FAMILIES.values())),
    "num_inference_steps": Bound(1, 200),
    "guidance_scale": Bound(0.1, 50),
    "fps": Bound(8, 60),
    "seed": Bound(0, MAX_SEED),
}


@dataclass(frozen=True)
class GenerationRequest:
    """One video to make: everything that decides it, except the picture and the model.

    Raises:
        InvalidOption: A value is of the wrong type or out of bounds.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    fps: int
    seed: int
    output_format: str = DEFAULT_FORMAT
    fast: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            check_type(field.name, getattr(self, field.name), field.type)
        for name, bound in BOUNDS.items():
            bound.check(name, getattr(self, name))
        for name in ("prompt", "negative_prompt"):
            check_text(name, getattr(self, name), MAX_PROMPT)
        if self.output_format not in FORMATS:
            raise InvalidOption(f"unknown format {self.output_format!r}", f"known formats: {', '.join(FORMATS)}")

    def steps_of(self, model: ModelSpec) -> int:
        """How many denoising steps that model makes for it."""
        return FAMILIES[model.family].steps(self.num_inference_steps, fast=self.fast)

    def warnings_for(self, model: ModelSpec) -> tuple[str, ...]:
        """What is allowed, and with this model seldom wise."""
        found = []
        if self.num_inference_steps > 60:
            found.append(f"{self.num_inference_steps} steps: over 60 the time grows and the video hardly does")
        if FAMILIES[model.family].guidance_scale is None and not 7 <= self.guidance_scale <= 11:
            found.append(f"guidance scale {self.guidance_scale:g}: 7 to 11 is recommended")
        return tuple(found)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "GenerationRequest":
        """Reads what `to_json` wrote.

        Raises:
            InvalidOption: Not JSON, a name too many or too few, or a value out of bounds. What has a default may be
                left out: requests that an older version wrote lack it.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InvalidOption(f"the request is not JSON: {error}") from None
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not isinstance(values, dict) or not needed <= values.keys() <= names:
            raise InvalidOption("the request has other fields than it should", f"fields: {', '.join(sorted(names))}")
        return cls(**values)


@dataclass(frozen=True)
class Preset:
    """A named choice of settings.

    Attributes:
        title: What a user reads.
        side: The side of the square whose area the video has, in pixels.
        num_frames: At `fps`; a model with another frame rate makes as many as the same length then has.
        num_inference_steps: Denoising steps.
        fps: Frames a second.
        guidance_scale: For models that have none of their own.
        gpu_gb: The GPU memory that it is meant for, for the presets of a tier (see `runtime.memory.tier`).
    """

    title: str
    side: int
    num_frames: int
    num_inference_steps: int
    fps: int
    guidance_scale: float
    gpu_gb: int | None = None


#: The last three are the tiers of GPU memory: what a card of that size is good for.
PRESETS: Mapping[str, Preset] = {
    "standard": Preset("Standard", side=512, num_frames=16, num_inference_steps=40, fps=8, guidance_scale=9.0),
    "preview": Preset("Fast preview", side=256, num_frames=8, num_inference_steps=30, fps=8, guidance_scale=9.0),
    "12gb": Preset("12 GB GPU", 512, num_frames=16, num_inference_steps=40, fps=8, guidance_scale=9.0, gpu_gb=12),
    "24gb": Preset("24 GB GPU", 768, num_frames=24, num_inference_steps=60, fps=12, guidance_scale=10.0, gpu_gb=24),
    "40gb": Preset("40 GB GPU", 1024, num_frames=32, num_inference_steps=80, fps=24, guidance_scale=11.0, gpu_gb=40),
}
DEFAULT_PRESET = "standard"


def build_request(  # noqa: PLR0913 - one keyword for each thing that can be asked for
    preset: str = DEFAULT_PRESET,
    *,
    model: ModelSpec,
    picture_size: tuple[int, int] | None = None,
    size: str | None = None,
    prompt: str = "",
    negative_prompt: str | None = None,
    seed: int | None = None,
    num_frames: int | None = None,
    seconds: float | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    fps: int | None = None,
    output_format: str = DEFAULT_FORMAT,
    fast: bool = False,
) -> GenerationRequest:
    """The preset, in the shape that suits the model, with everything that was asked for put over it.

    Args:
        preset: A name of `PRESETS`.
        model: The model that will run it; its family's frame rate and guidance go before the preset's, and the
            frames become as many as the preset's length then has.
        picture_size: Width and height of the picture as it is looked at. Without `size`, the video takes the
            picture's shape and at most the preset's area, as far as the model can.
        size: "WIDTHxHEIGHT", taken exactly as asked.
        prompt: What should happen in the video.
        negative_prompt: What should not; None takes the usual list of faults.
        seed: None draws one, so that it can be told and used again.
        num_frames: Instead of the preset's, taken exactly as asked.
        seconds: The same, said as a length: it goes through the frame rate to the nearest count that the model makes.
        num_inference_steps: Instead of the preset's.
        guidance_scale: Instead of the model's or the preset's.
        fps: Instead of the model's or the preset's.
        output_format: A name of `runtime.formats.FORMATS`.
        fast: A little less exact, in less time, as the model's family has it.

    Raises:
        InvalidOption: No such preset, a value out of bounds, or what the model does not make.
    """
    if preset not in PRESETS:
        raise InvalidOption(f"unknown preset {preset!r}", f"known presets: {', '.join(PRESETS)}")
    base, family = PRESETS[preset], FAMILIES[model.family]
    width, height = parse_size(size) if size else fit_area(base.side**2, picture_size or (1, 1), family)
    own_fps = _first(family.fps, base.fps)
    frame_rate = _first(fps, own_fps)
    usual = round(base.num_frames * own_fps / base.fps) if seconds is None else frames_in(seconds, frame_rate)
    frames = _first(num_frames, family.nearest_frames(usual))
    steps = _first(num_inference_steps, base.num_inference_steps)
    check_makes(model, width, height, frames, steps, fast=fast)
    return GenerationRequest(
        prompt=prompt,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT if negative_prompt is None else negative_prompt,
        width=width,
        height=height,
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=float(_first(guidance_scale, family.guidance_scale, base.guidance_scale)),
        fps=frame_rate,
        seed=_first(seed, secrets.randbelow(MAX_SEED + 1)),
        output_format=output_format,
        fast=fast,
    )


def smallest_request(model: ModelSpec) -> GenerationRequest:
    """The least that shows whether the model makes a video at all: two steps of its smallest sensible shape."""
    family = FAMILIES[model.family]
    width, height = family.sizes[0] if family.sizes else (_SMALLEST_SIDE, _SMALLEST_SIDE)
    return build_request(
        model=model,
        size=f"{width}x{height}",
        prompt="a check",
        num_frames=family.fewest_frames(_FEWEST_FRAMES),
        num_inference_steps=2,
        seed=0,
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
