"""How many bytes a video takes: the weights that lie on the device, and what a call holds beside them.

Predicted, not measured here: what was measured on this machine is `runtime.measurements`. Standard library alone; knows
nothing of what there is room for (`runtime.memory`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from runtime.model_spec import Arithmetic, ModelSpec
from runtime.options import GenerationRequest

_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "autocast": 4}
_GIB = 2**30


@dataclass(frozen=True)
class Residency:
    """Where the weights wait while nothing is computed with them, and in what.

    Attributes:
        offload: "none": on the device; "model": in main memory, and one part at a time on the device; "group": in main
            memory, and one block at a time on the device.
        fp8: Whether the denoiser's lie there in 8 bits and are widened layer by layer.
    """

    offload: Literal["none", "model", "group"] = "none"
    fp8: bool = False


@dataclass(frozen=True)
class Knobs:
    """How one call saves memory.

    Attributes:
        decode_at_once: Frames that are decoded at a time, where the pipeline lets one choose. Left alone, SVD decodes
            all of them at once: 28 GiB for 25 frames of 576x1024.
        forward_chunking: Whether the denoiser's inner layers take one frame at a time.
        tiling: Whether the decoder takes one tile at a time.
    """

    decode_at_once: int = 4
    forward_chunking: bool = False
    tiling: bool = False


@dataclass(frozen=True)
class _Row:
    """Bytes in 16-bit arithmetic, with guidance.

    Attributes:
        denoise: For each pixel of each frame.
        decode: For each pixel of each frame that is decoded at once.
    """

    denoise: float
    decode: float


# From running the real architectures on the "meta" device, attention counted as its fused kernels keep it: 2.59 GiB for
# I2VGen-XL's UNet at 512x512 and 16 frames, and 0.38 GiB for its decoder and one such frame; 7.73 GiB for SVD-XT's at
# 1024x576 and 25 frames, and 1.1 GiB. In between it is linear to 1 %. The demo's was measured as resident memory.
_I2VGEN_XL = _Row(2.59 * _GIB / (512 * 512 * 16), 0.38 * _GIB / (512 * 512))
_SVD = _Row(7.73 * _GIB / (1024 * 576 * 25), 1.13 * _GIB / (1024 * 576))
_ROWS: Mapping[str, _Row] = {"demo": _Row(45, 90), "i2vgen-xl": _I2VGEN_XL, "svd": _SVD, "svd-xt": _SVD}

# Where nothing better is known: what a call of a 16-bit video model holds beside the weights, by the pixels of all
# frames. From a published guide to I2VGen-XL on GPUs (13 GB, 18 GB and 22 GB in all), less its weights.
_GUIDE = ((512 * 512 * 16, 8e9), (768 * 768 * 24, 13e9), (1024 * 1024 * 32, 17e9))
#: Parts that are published in fp32 alone, and computed in the model's own precision all the same.
_PUBLISHED_WIDE: Mapping[str, str] = {"wan2.2-ti2v-5b": "transformer", "ltx-video": "text_encoder"}


def resident(spec: ModelSpec, precision: Arithmetic, residency: Residency) -> int:
    """The bytes of weights that lie on the device at the most."""
    parts = _parts(spec)
    widened = _BYTES[precision] / _BYTES[spec.precision]
    kept = sum(parts.values()) if residency.offload == "none" else max(parts.values(), default=0)
    return round(kept * widened)


def beside(spec: ModelSpec, precision: Arithmetic, request: GenerationRequest, batch: int, knobs: Knobs) -> int:
    """The most bytes that a call holds beside the weights, for `batch` videos of that request at once."""
    pixels = request.width * request.height
    volume = pixels * request.num_frames * batch
    widened = _BYTES[precision] / 2
    row = _ROWS.get(spec.id)
    if row is None:
        return round(_guide(volume) * widened)
    decoded = pixels * min(knobs.decode_at_once, request.num_frames)
    frames = volume * 3 * 4 * 2  # as floats, on the device and as they are handed over
    return round(max(volume * row.denoise, decoded * row.decode) * widened + frames)


def _parts(spec: ModelSpec) -> dict[str, int]:
    """The bytes of the weights in each folder of the model."""
    parts: dict[str, int] = {}
    for file in spec.files:
        folder, _, name = file.path.rpartition("/")
        if name.endswith(".safetensors"):
            wide = _PUBLISHED_WIDE.get(spec.id) == folder
            parts[folder] = parts.get(folder, 0) + file.about // (2 if wide else 1)
    return parts


def _guide(volume: float) -> float:
    """Between two lines of the guide in proportion, below the first and above the last as well."""
    least, least_bytes = _GUIDE[0]
    if volume <= least:
        return least_bytes * volume / least
    for (first, first_bytes), (second, second_bytes) in pairwise(_GUIDE):
        slope = (second_bytes - first_bytes) / (second - first)
        if volume <= second:
            break
    return first_bytes + (volume - first) * slope
