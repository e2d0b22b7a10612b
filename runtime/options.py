"""What a generation is asked for: the presets, the bounds, and one checked request.

A `GenerationRequest` that exists is within the bounds, wherever it came from. Standard library only: the
command line and the server's parent process use it. Knows nothing of models' quality or of memory.
"""

import json
import math
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any

from runtime.models import ModelSpec
from runtime.problems import RuntimeProblem

#: Sides are multiples of this: 8 from the VAE times 8 from the three halvings inside the denoiser.
SIDE_STEP = 64
MAX_SIDE = 2048
_SIDE_DIGITS = 6
MAX_SEED = 2**32 - 1
MAX_PROMPT = 2000
#: The shapes that a preset takes from a picture, from upright to wide.
_RATIOS = (0.5, 2.0)
#: Unicode's categories of control characters and of halves of characters.
_NOT_TEXT = {"Cc", "Cs"}

#: What the authors of I2VGen-XL use in their examples.
DEFAULT_NEGATIVE_PROMPT = (
    "Distorted, discontinuous, Ugly, blurry, low resolution, motionless, static, disfigured, "
    "disconnected limbs, Ugly faces, incomplete arms"
)


class InvalidOption(RuntimeProblem):
    """A setting that cannot be used; the message names it, the hint says what can."""


@dataclass(frozen=True)
class Bound:
    """The smallest and largest value that a setting takes."""

    low: float
    high: float

    def check(self, name: str, value: float) -> None:
        """Raises InvalidOption unless `value` lies within."""
        if not self.low <= value <= self.high:
            raise InvalidOption(f"{name} is {value}", f"{name} goes from {self.low} to {self.high}")


BOUNDS: Mapping[str, Bound] = {
    "num_frames": Bound(1, 64),
    "num_inference_steps": Bound(1, 200),
    "guidance_scale": Bound(0.1, 50),
    "fps": Bound(8, 60),
    "seed": Bound(0, MAX_SEED),
}
_SECONDS = Bound(0.1, 60)


@dataclass(frozen=True)
class GenerationRequest:
    """One video to make: everything that decides its frames, except the picture and the model.

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

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        _check_side("width", self.width)
        _check_side("height", self.height)
        for name, bound in BOUNDS.items():
            bound.check(name, getattr(self, name))
        for name in ("prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))

    def warnings_for(self, model: ModelSpec) -> tuple[str, ...]:
        """What is allowed, and with this model seldom wise."""
        found = []
        if self.num_inference_steps > 60:
            found.append(f"{self.num_inference_steps} steps: over 60 the time grows and the video hardly does")
        if model.guidance_scale is None and not 7 <= self.guidance_scale <= 11:
            found.append(f"guidance scale {self.guidance_scale:g}: 7 to 11 is recommended")
        return tuple(found)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "GenerationRequest":
        """Reads what `to_json` wrote.

        Raises:
            InvalidOption: Not JSON, a name too many or too few, or a value out of bounds.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InvalidOption(f"the request is not JSON: {error}") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise InvalidOption("the request has other fields than it should", f"fields: {', '.join(sorted(names))}")
        return cls(**values)


@dataclass(frozen=True)
class Preset:
    """A named choice of settings; `side` is the side of the square whose area the video has."""

    title: str
    side: int
    num_frames: int
    num_inference_steps: int
    fps: int
    guidance_scale: float


PRESETS: Mapping[str, Preset] = {
    "standard": Preset("Standard", side=512, num_frames=16, num_inference_steps=40, fps=8, guidance_scale=9.0),
    "preview": Preset("Fast preview", side=256, num_frames=8, num_inference_steps=30, fps=8, guidance_scale=9.0),
}
DEFAULT_PRESET = "standard"


def build_request(  # noqa: PLR0913 - one keyword for each thing that can be asked for
    preset: str = DEFAULT_PRESET,
    *,
    picture_size: tuple[int, int] | None = None,
    size: str | None = None,
    model: ModelSpec | None = None,
    prompt: str = "",
    negative_prompt: str | None = None,
    seed: int | None = None,
    num_frames: int | None = None,
    seconds: float | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    fps: int | None = None,
) -> GenerationRequest:
    """The preset with everything that was asked for put over it.

    Args:
        preset: A name of `PRESETS`.
        picture_size: Width and height of the picture as it is looked at. Without `size`, the video takes the
            picture's shape and at most the preset's area.
        size: "WIDTHxHEIGHT", taken exactly as asked.
        model: The model that will run it; its own guidance goes before the preset's.
        prompt: What should happen in the video.
        negative_prompt: What should not; None takes the usual list of faults.
        seed: None draws one, so that it can be told and used again.
        num_frames: Instead of the preset's.
        seconds: The same, said as a length: it goes through the frame rate.
        num_inference_steps: Instead of the preset's.
        guidance_scale: Instead of the model's or the preset's.
        fps: Instead of the preset's.

    Raises:
        InvalidOption: No such preset, or a value out of bounds.
    """
    if preset not in PRESETS:
        raise InvalidOption(f"unknown preset {preset!r}", f"known presets: {', '.join(PRESETS)}")
    base = PRESETS[preset]
    width, height = _parse_size(size) if size else _fit_area(base.side**2, picture_size or (1, 1))
    own_guidance = model.guidance_scale if model else None
    frame_rate = _first(fps, base.fps)
    return GenerationRequest(
        prompt=prompt,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT if negative_prompt is None else negative_prompt,
        width=width,
        height=height,
        num_frames=_first(num_frames, _frames_in(seconds, frame_rate), base.num_frames),
        num_inference_steps=_first(num_inference_steps, base.num_inference_steps),
        guidance_scale=float(_first(guidance_scale, own_guidance, base.guidance_scale)),
        fps=frame_rate,
        seed=_first(seed, secrets.randbelow(MAX_SEED + 1)),
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _frames_in(seconds: float | None, fps: int) -> int | None:
    if seconds is None:
        return None
    _SECONDS.check("seconds", seconds)
    return max(1, round(seconds * fps))


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("\u00d7", "x").partition("x")
    if not all(side.strip().isdecimal() and len(side.strip()) <= _SIDE_DIGITS for side in (width, height)):
        raise InvalidOption(f"size {text[:40]!r} is not WIDTHxHEIGHT", "for example 512x512")
    return int(width), int(height)


def _fit_area(area: int, picture_size: tuple[int, int]) -> tuple[int, int]:
    """The allowed size closest to the picture's shape that has at most `area` pixels.

    Shape counts double against area: a 3:2 photo gets 576x384, not the larger and wider 640x384.
    """
    ratio = min(max(picture_size[0] / picture_size[1], _RATIOS[0]), _RATIOS[1])
    sides = range(SIDE_STEP, math.isqrt(int(area * _RATIOS[1])) + 1, SIDE_STEP)

    def misfit(size: tuple[int, int]) -> float:
        width, height = size
        return 2 * abs(math.log(width / height / ratio)) + math.log(area / (width * height))

    return min((size for size in product(sides, sides) if size[0] * size[1] <= area), key=misfit)


def _check_type(name: str, value: object, kind: object) -> None:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidOption(f"{name} is {value!r}", f"{name} is a {getattr(kind, '__name__', kind)}")


def _check_side(name: str, value: int) -> None:
    nearest = max(round(min(value, MAX_SIDE) / SIDE_STEP), 1) * SIDE_STEP
    if value != nearest:
        raise InvalidOption(
            f"{name} is {value}, not a multiple of {SIDE_STEP} up to {MAX_SIDE}", f"the nearest allowed is {nearest}"
        )


def _check_text(name: str, value: str) -> None:
    if len(value) > MAX_PROMPT:
        raise InvalidOption(f"{name} has {len(value)} characters", f"at most {MAX_PROMPT}")
    if any(unicodedata.category(character) in _NOT_TEXT and character not in "\t\r\n" for character in value):
        raise InvalidOption(f"{name} holds characters that are not text", "plain text, please")
