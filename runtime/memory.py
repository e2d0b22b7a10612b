"""Memory before work: the one function that decides whether a request is taken, and how it is run.

A request fits if MARGIN times what it needs is within what there is. The settings are tried from the one that costs
nothing to the dearest, and each is used only where those before it do not fit. First those of the call, then those that
load the model otherwise:

    model offload   the same video to the last bit; the parts travel once for each video
    8-bit weights   hardly slower, but the video changes a little: after what leaves it as it is, and only for
                    transformers. With small random ones the frames changed by 0.1 to 0.4 of 255 on average, with UNets
                    by 4 to 5
    both
    group offload   the same video, but all weights travel at every step, which a slow bus makes several times as long,
                    and they lie in pinned main memory, which not every machine has to spare; at last in 8 bits as well

Standard library alone.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from runtime import footprint
from runtime.families import FAMILIES
from runtime.footprint import Knobs, Residency, Shape
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.options import PRESETS, GenerationRequest, build_request
from runtime.shapes import fit_area

__all__ = ["MARGIN", "Knobs", "Learnt", "Residency", "Room", "Shape", "Verdict", "decide", "tier"]

#: For what no prediction sees: the scratch memory of kernels, an allocator's gaps. The guide to I2VGen-XL that the
#: presets of the tiers come from has the same 10 %.
MARGIN = 1.1
#: What the smallest card that is sold as so many GB says that it has, in GiB: the driver keeps some, error correction
#: takes a sixteenth. A card of 11 GB has 10.75.
_SOLD_AS: Mapping[int, float] = {12: 11.2, 24: 21.5, 40: 38.5}
_GIB = 2**30
_RESIDENCIES = (
    Residency(),
    Residency("model"),
    Residency(fp8=True),
    Residency("model", fp8=True),
    Residency("group"),
    Residency("group", fp8=True),
)
#: Families whose decoder looks along the frames, so that it matters how many it gets at a time.
_DECODES_TOGETHER = ("svd",)
#: In so many steps a smaller size is looked for.
_SIZES = 16


@dataclass(frozen=True)
class Room:
    """The memory of a device, in bytes.

    Attributes:
        kind: Of the device.
        total: All that it has.
        available: What our process may use of it in all: what is free, and what it holds already, weights included.
        name: What a person calls the device.
    """

    kind: Literal["cuda", "cpu"]
    total: int
    available: int
    name: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether a request fits, and how.

    Attributes:
        fits: Whether it does.
        need: The bytes of weights on the device and of what the call holds beside them, without the margin; where it
            does not fit, with the settings that need least.
        available: Those that there are.
        residency: How the model has to be loaded.
        knobs: How the call has to be made.
        said: What that costs the user, in sentences; empty where it costs nothing.
        instead: What would fit, where it does not.
    """

    fits: bool
    need: int
    available: int
    residency: Residency
    knobs: Knobs
    said: tuple[str, ...] = ()
    instead: tuple[Shape, ...] = ()

    def told(self, request: GenerationRequest) -> str:
        """Why the request does not fit, and what would, in a sentence."""
        asked = Shape(request.width, request.height, request.num_frames)
        need, there = MARGIN * self.need / _GIB, self.available / _GIB
        instead = f"; what would fit: {', or '.join(map(str, self.instead))}" if self.instead else ""
        return f"{asked} needs {need:.1f} GiB of memory, and there are {there:.1f} GiB{instead}"


#: The peak that such a call had on this device with the model as it is loaded, in bytes beside the weights that lay
#: there before it; None: it was never measured.
Learnt = Callable[[GenerationRequest, int, Knobs], int | None]


def decide(
    spec: ModelSpec,
    precision: Arithmetic,
    request: GenerationRequest,
    room: Room,
    *,
    batch: int = 1,
    learnt: Learnt | None = None,
    loaded: Residency | None = None,
) -> Verdict:
    """Decides whether the request fits, and by which settings.

    Args:
        spec: The model.
        precision: What it is computed in.
        request: What is asked for.
        room: What there is.
        batch: So many of them in one call.
        learnt: What is known of earlier calls; it goes before what is predicted.
        loaded: How the model is loaded already; what fits so needs no loading anew.
    """
    asked = _Asked(spec, precision, room, learnt, loaded)
    verdict = asked.cheapest(request, batch)
    return verdict if verdict.fits else replace(verdict, instead=tuple(dict.fromkeys(asked.instead(request))))


def tier(total: int) -> str | None:
    """The preset of the tier that a GPU with so many bytes belongs to; None: it has less than the smallest."""
    names = [name for name, preset in PRESETS.items() if preset.gpu_gb and _SOLD_AS[preset.gpu_gb] * _GIB <= total]
    return max(names, key=lambda name: PRESETS[name].gpu_gb or 0) if names else None


@dataclass(frozen=True)
class _Asked:
    """One model on one device."""

    spec: ModelSpec
    precision: Arithmetic
    room: Room
    learnt: Learnt | None
    loaded: Residency | None

    def cheapest(self, request: GenerationRequest, batch: int) -> Verdict:
        """By the first settings with which the request fits, or those that need least."""
        verdicts = []
        for residency, knobs in self._settings():
            need = self._need(request, batch, residency, knobs)
            fits = MARGIN * need <= self.room.available
            said = _said(self.spec, residency, knobs)
            verdicts.append(Verdict(fits, need, self.room.available, residency, knobs, said))
            if fits:
                return verdicts[-1]
        return min(verdicts, key=lambda verdict: verdict.need)

    def instead(self, request: GenerationRequest) -> Iterator[Shape]:
        """What fits of the same picture shape: most frames, the largest size, and the fast preview."""
        preview = _preview(self.spec, request)
        frames, sizes = _fewer_frames(self.spec, request, preview), _smaller_sizes(self.spec, request, preview)
        asked = request.width * request.height * request.num_frames
        for kind in (frames, sizes, [preview]):
            fitting = (shape for shape in kind if shape.volume < asked and self._fits(request, shape))
            yield from itertools.islice(fitting, 1)

    def _fits(self, request: GenerationRequest, shape: Shape) -> bool:
        other = replace(request, width=shape.width, height=shape.height, num_frames=shape.num_frames)
        return self.cheapest(other, 1).fits

    def _need(self, request: GenerationRequest, batch: int, residency: Residency, knobs: Knobs) -> int:
        shape = Shape(request.width, request.height, request.num_frames)
        beside = None
        if self.learnt and residency == (self.loaded or Residency()):
            beside = self.learnt(request, batch, knobs)
        if beside is None:
            beside = footprint.beside(self.spec, self.precision, shape, batch, residency, knobs)
        return footprint.resident(self.spec, self.precision, residency) + beside

    def _settings(self) -> Iterator[tuple[Residency, Knobs]]:
        """From the cheapest to the dearest; those with which the model is loaded already before all others."""
        row = footprint.row(self.spec.id, self.precision)
        residencies = [Residency()]
        if row and self.room.kind == "cuda":  # on a CPU the weights lie in main memory in any case
            bears_8_bits = row.narrow is not None and row.denoiser == "transformer"
            residencies = [each for each in _RESIDENCIES if bears_8_bits or not each.fp8]
        if self.loaded in residencies:
            residencies.sort(key=lambda each: each != self.loaded)
        if row is None:
            knobs = [Knobs()]
        elif row.tiles:
            knobs = [Knobs(), Knobs(tiling=True)]
        else:
            knobs = [Knobs(at_once, chunked) for chunked in (False, True) for at_once in (4, 2, 1)]
        yield from itertools.product(residencies, knobs)


def _said(spec: ModelSpec, residency: Residency, knobs: Knobs) -> tuple[str, ...]:
    said = []
    if knobs.decode_at_once < Knobs().decode_at_once:
        together = spec.family in _DECODES_TOGETHER
        frames = f"decodes {knobs.decode_at_once} frame{'s' * (knobs.decode_at_once > 1)} at a time"
        said.append(frames + (": they may flicker a little against each other" if together else ""))
    if knobs.tiling:
        said.append("decodes in overlapping tiles: slower, and their edges may show a little")
    if knobs.forward_chunking:
        said.append("computes the widest layers one frame at a time: slower")
    if residency.offload == "model":
        said.append("keeps the parts of the model in main memory until they are needed: slower")
    if residency.fp8:
        said.append("keeps the weights that denoise in 8 bits: the video changes a little")
    if residency.offload == "group":
        said.append("keeps the model in main memory and brings it over block by block at every step: much slower")
    return tuple(said)


def _preview(spec: ModelSpec, request: GenerationRequest) -> Shape:
    made = build_request("preview", model=spec, picture_size=(request.width, request.height), seed=0)
    return Shape(made.width, made.height, made.num_frames)


def _fewer_frames(spec: ModelSpec, request: GenerationRequest, preview: Shape) -> Iterator[Shape]:
    """The same size with fewer frames, but not fewer than the preview has; the most first."""
    step = FAMILIES[spec.family].frame_step
    for frames in range(request.num_frames - step, preview.num_frames - 1, -step):
        yield Shape(request.width, request.height, frames)


def _smaller_sizes(spec: ModelSpec, request: GenerationRequest, preview: Shape) -> Iterator[Shape]:
    """The same frames of a smaller size, but not smaller than the preview; the largest first."""
    asked = request.width * request.height
    for part in range(_SIZES - 1, 0, -1):
        area = asked * part // _SIZES
        if area >= preview.pixels:
            width, height = fit_area(area, (request.width, request.height), FAMILIES[spec.family])
            if width * height < asked:
                yield Shape(width, height, request.num_frames)
