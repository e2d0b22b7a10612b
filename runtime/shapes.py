"""The sizes and lengths of videos: which of them a model makes, and which suits a picture. Standard library only.

Knows nothing of the bounds that hold for all models (`runtime.options`).
"""

import math
from itertools import product

from runtime.bounds import Bound, InvalidOption, check_type
from runtime.families import FAMILIES, MAX_SIDE, Family
from runtime.models import ModelSpec

_SIDE_DIGITS = 6
_SECONDS = Bound(0.1, 60)
#: The shapes that a video takes from a picture, from upright to wide.
_RATIOS = (0.5, 2.0)


def check_makes(
    model: ModelSpec, width: int, height: int, num_frames: int, num_inference_steps: int, *, fast: bool = False
) -> None:
    """Looks whether the model makes videos of this size and length in that many steps, and whether it has a fast way.

    Raises:
        InvalidOption: It does not; the hint says which it makes.
    """
    family = FAMILIES[model.family]
    asked = {"width": width, "height": height, "num_frames": num_frames, "num_inference_steps": num_inference_steps}
    for name, value in asked.items():
        check_type(name, value, int)
    check_type("fast", fast, bool)
    if fast and family.fast is None:
        raise InvalidOption("fast is asked for", f"{model.id} has no faster way: leave it out, or ask for fewer steps")
    if family.sizes and (width, height) not in family.sizes:
        sizes = ", ".join(f"{wide}x{high}" for wide, high in family.sizes)
        raise InvalidOption(f"the size is {width}x{height}", f"{model.id} makes {sizes} alone")
    for name, side in (("width", width), ("height", height)):
        if side != (nearest := family.nearest_side(side)):
            raise InvalidOption(
                f"{name} is {side}, and {model.id} takes multiples of {family.side_step} up to {MAX_SIDE}",
                f"the nearest allowed is {nearest}",
            )
    if family.steps(num_inference_steps, fast=fast) < family.least_steps:
        raise InvalidOption(f"num_inference_steps is {num_inference_steps}", f"{model.id} needs {family.least_steps}")
    Bound(family.least_frames, family.most_frames).check("num_frames", num_frames)
    if num_frames != (nearest := family.nearest_frames(num_frames)):
        raise InvalidOption(
            f"num_frames is {num_frames}, and {model.id} makes one more than a multiple of {family.frame_step}",
            f"the nearest allowed is {nearest}",
        )


def fit_area(area: int, picture_size: tuple[int, int], family: Family) -> tuple[int, int]:
    """The size that the family makes, closest to the picture's shape, of at most `area` pixels where it has a choice.

    Shape counts double against area: with sides in steps of 64, a 3:2 photo gets 576x384, not the larger and wider
    640x384.
    """
    ratio = min(max(picture_size[0] / picture_size[1], _RATIOS[0]), _RATIOS[1])

    def misfit(size: tuple[int, int]) -> float:
        width, height = size
        return 2 * abs(math.log(width / height / ratio)) + math.log(area / (width * height))

    sides = range(family.side_step, math.isqrt(int(area * _RATIOS[1])) + 1, family.side_step)
    sizes = family.sizes or [size for size in product(sides, sides) if size[0] * size[1] <= area]
    return min(sizes, key=misfit)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height out of "WIDTHxHEIGHT".

    Raises:
        InvalidOption: It is not of that form.
    """
    width, _, height = text.lower().replace("\u00d7", "x").partition("x")
    if not all(side.strip().isdecimal() and len(side.strip()) <= _SIDE_DIGITS for side in (width, height)):
        raise InvalidOption(f"size {text[:40]!r} is not WIDTHxHEIGHT", "for example 512x512")
    return int(width), int(height)


def frames_in(seconds: float, fps: int) -> int:
    """How many frames a video of that length has.

    Raises:
        InvalidOption: The length is out of bounds.
    """
    _SECONDS.check("seconds", seconds)
    return round(seconds * fps)
