"""How many bytes a video takes: the weights that lie on the device, and what a call holds beside them.

Predicted from a shipped table, not measured here: what was measured on this machine is `runtime.measurements`. The
table is made by `benchmarks/peaks.py`, which says how. For each model and precision it has the bytes of each part and,
for each phase of a call, a line: a constant, so much by the pixel, by pixel and frame, and by pixel that is decoded at
once. Standard library alone; knows nothing of what there is room for (`runtime.memory`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from runtime.model_spec import Arithmetic, ModelSpec

TABLE = Path(__file__).parent / "peaks.json"

#: What the kernels of a VAE's convolutions take beside the tensors that the table counts. Reported from GPUs: 1.31
#: times the table for AnimateDiff (huggingface/diffusers#9177), 1.26 for CogVideoX (its page: "about 19 GB"). With the
#: margin of `runtime.memory` on top, both are covered.
_SCRATCH = 1.2
#: With autocast, a narrow copy of every fp32 weight is kept for the length of a call.
_AUTOCAST_COPIES = 0.5


@dataclass(frozen=True)
class Shape:
    """The size and length of a video."""

    width: int
    height: int
    num_frames: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} with {self.num_frames} frames"

    @property
    def pixels(self) -> int:
        """Of one frame."""
        return self.width * self.height

    @property
    def volume(self) -> int:
        """The pixels of all frames."""
        return self.pixels * self.num_frames


@dataclass(frozen=True)
class Residency:
    """Where the weights wait while nothing is computed with them, and in what.

    Attributes:
        offload: "none": on the device. "model": in main memory; a part comes over when it is its turn, and goes when
            the next in line comes (diffusers' enable_model_cpu_offload). "group": in main memory, but for the VAE; the
            denoiser comes over block by block, the next while one computes, and the encoders layer by layer
            (diffusers' group offloading with a stream; by blocks it does not reach into a T5, and it leaves most VAEs
            behind, huggingface/diffusers#12319).
        fp8: Whether the denoiser's lie there in 8 bits, apart from norms and embeddings, and are widened layer by layer
            (diffusers' enable_layerwise_casting).
    """

    offload: Literal["none", "model", "group"] = "none"
    fp8: bool = False


@dataclass(frozen=True)
class Knobs:
    """How one call saves memory.

    Attributes:
        decode_at_once: Frames that are decoded at a time, where the pipeline lets one choose. Left alone, SVD decodes
            all of them at once: 28 GiB for 25 frames of 576x1024.
        forward_chunking: Whether the feed-forward layers of a UNet take one frame at a time.
        tiling: Whether the VAE takes one tile at a time, of the frames and, where it knows that, in time.
    """

    decode_at_once: int = 4
    forward_chunking: bool = False
    tiling: bool = False


class Line(NamedTuple):
    """Bytes by the shape: a constant, by the pixel, by pixel and frame, by pixel that the VAE works on at a time."""

    fixed: float = 0
    pixel: float = 0
    volume: float = 0
    at_once: float = 0

    def bytes(self, shape: Shape, at_once: int, batch: int = 1) -> float:
        """For `batch` videos in one call. The constant counts for each of them: a part of it is their prompts."""
        return batch * (self.fixed + self.pixel * shape.pixels + self.volume * shape.volume) + self.at_once * at_once


@dataclass(frozen=True)
class Phase:
    """One phase of a call.

    Attributes:
        works: The part that works.
        beside: The parts that are on the device in it with model offload.
        plain: What is computed.
        sparing: The same with the knob that spares this part: tiling for the VAE, forward chunking for the denoiser.
            None: it has no such knob.
        tile: Width and height of a tile, where the VAE is spared.
        frames: So many it works on at a time; None: as many as `Knobs.decode_at_once` says. Where it is 1, their number
            makes no difference.
    """

    works: str
    beside: tuple[str, ...]
    plain: Line
    sparing: Line | None = None
    tile: tuple[int, int] | None = None
    frames: int | None = None

    def bytes(self, shape: Shape, knobs: Knobs, batch: int = 1) -> float:
        """What is computed, for `batch` videos in one call."""
        spared = knobs.tiling if self.works == "vae" else knobs.forward_chunking
        line = self.sparing if spared and self.sparing else self.plain
        return line.bytes(shape, self.at_once(shape, knobs, batch), batch)

    def at_once(self, shape: Shape, knobs: Knobs, batch: int = 1) -> int:
        """The pixels that are worked on at a time."""
        frames = min(self.frames or knobs.decode_at_once, batch * shape.num_frames)
        if knobs.tiling and self.tile:
            return min(shape.width, self.tile[0]) * min(shape.height, self.tile[1]) * frames
        return shape.pixels * frames


@dataclass(frozen=True)
class Row:
    """One model in one precision.

    Attributes:
        parts: The bytes of the weights of each part.
        denoiser: Which of them works at every step.
        groups: With group offload, the most bytes of each that are on the device at once.
        phases: In their order.
        narrow: With fp8 the bytes of the denoiser, of its `groups`, and of its largest layer when it is widened; None:
            it is not computed in 16 bits, so 8 are not offered.
    """

    parts: Mapping[str, int]
    denoiser: str
    groups: Mapping[str, int]
    phases: Mapping[str, Phase]
    narrow: tuple[int, int, int] | None = None

    @property
    def tiles(self) -> bool:
        """Whether its VAE works in tiles rather than on so many frames as it is told."""
        return self.phases["decode"].tile is not None

    def waiting(self, residency: Residency) -> int:
        """The weights on the device while nothing is computed."""
        if residency.offload == "none":
            return self._weights(self.parts, residency)
        return self.parts["vae"] if residency.offload == "group" else 0

    def at_work(self, phase: Phase, residency: Residency) -> int:
        """The weights on the device in a phase."""
        if residency.offload == "none":
            return self._weights(self.parts, residency) + self._widened(phase, residency)
        if residency.offload == "model":
            return self._weights(phase.beside, residency) + self._widened(phase, residency)
        if phase.works == "vae":
            return self.parts["vae"]
        if residency.fp8 and self.narrow and phase.works == self.denoiser:
            return self.parts["vae"] + self.narrow[1] + self._widened(phase, residency)
        return self.parts["vae"] + self.groups[phase.works]

    def _weights(self, names: Iterable[str], residency: Residency) -> int:
        return sum(
            self.narrow[0] if residency.fp8 and self.narrow and name == self.denoiser else self.parts[name]
            for name in names
        )

    def _widened(self, phase: Phase, residency: Residency) -> int:
        return self.narrow[2] if residency.fp8 and self.narrow and phase.works == self.denoiser else 0


# Where nothing better is known: what a call of a 16-bit video model holds beside the weights, by the pixels of all
# frames. From a published guide to I2VGen-XL on GPUs (13 GB, 18 GB and 22 GB in all), less its weights.
_GUIDE = ((512 * 512 * 16, 8e9), (768 * 768 * 24, 13e9), (1024 * 1024 * 32, 17e9))
_WIDTHS = {"fp16": 2, "bf16": 2, "fp32": 4, "autocast": 4}


def row(model_id: str, precision: Arithmetic) -> Row | None:
    """The table's row of a model in a precision; None: it has none."""
    return _rows().get((model_id, "fp32" if precision == "autocast" else precision))


def resident(spec: ModelSpec, precision: Arithmetic, residency: Residency) -> int:
    """The bytes of weights that lie on the device while nothing is computed: what `beside` is beside of."""
    found = row(spec.id, precision)
    if found:
        return found.waiting(residency)
    widened = _WIDTHS[precision] / _WIDTHS[spec.precision]
    return round(spec.weight_bytes * widened) if residency.offload == "none" else 0


def most_resident(spec: ModelSpec, precision: Arithmetic, residency: Residency) -> int:
    """The bytes of weights that lie on the device when most of them do, in the middle of a call."""
    found = row(spec.id, precision)
    if found:
        return max(found.at_work(phase, residency) for phase in found.phases.values())
    return resident(spec, precision, Residency())


def beside(spec: ModelSpec, precision: Arithmetic, shape: Shape, batch: int, residency: Residency, knobs: Knobs) -> int:
    """The most bytes that a call holds beside what is `resident`: the largest over its phases.

    Weights that only come over for a phase count here.

    Args:
        spec: The model.
        precision: What it is computed in.
        shape: Of each video.
        batch: So many of them in one call.
        residency: How the model is loaded.
        knobs: How the call is made.
    """
    found = row(spec.id, precision)
    if found is None:
        return round(_guide(batch * shape.volume) * _WIDTHS[precision] / 2)
    there = found.waiting(residency)
    copies = round(_AUTOCAST_COPIES * there) if precision == "autocast" else 0
    return copies + max(
        found.at_work(phase, residency) - there + _held(phase, shape, batch, knobs) for phase in found.phases.values()
    )


def _held(phase: Phase, shape: Shape, batch: int, knobs: Knobs) -> int:
    return round(phase.bytes(shape, knobs, batch) * (_SCRATCH if phase.works == "vae" else 1))


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


@cache
def _rows() -> Mapping[tuple[str, str], Row]:
    table = json.loads(TABLE.read_text(encoding="utf-8"))["rows"]
    return {(model_id, precision): _row(found) for model_id, rows in table.items() for precision, found in rows.items()}


def _row(found: Mapping[str, Any]) -> Row:
    phases = {
        name: Phase(
            phase["works"],
            tuple(phase["beside"]),
            Line(*phase["plain"]),
            Line(*phase["sparing"]) if "sparing" in phase else None,
            _tuple(phase.get("tile")),
            phase.get("frames"),
        )
        for name, phase in found["phases"].items()
    }
    return Row(found["parts"], found["denoiser"], found["groups"], phases, _tuple(found["narrow"]))


def _tuple(values: list[int] | None) -> Any:
    return None if values is None else tuple(values)


def forget() -> None:
    """Has the table read anew, which was written again."""
    _rows.cache_clear()
