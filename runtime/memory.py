"""Memory before work: the one function that decides whether a request is taken, and how it is run.

A request fits if MARGIN times what it needs is within what there is. The settings are tried from the one that costs
nothing to the dearest, and each is used only where those before it do not fit. Standard library alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runtime import footprint
from runtime.families import FAMILIES
from runtime.footprint import Knobs, Residency
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.options import PRESETS, GenerationRequest
from runtime.shapes import fit_area

#: For what no prediction sees: the scratch memory of kernels, an allocator's gaps. The guide to I2VGen-XL that the
#: presets of the tiers come from has the same 10 %.
MARGIN = 1.1
#: A card that is sold as 12 GB says of itself that it has 11.6 GiB, or a little less.
_SOLD_AS = 0.93 * 10**9
_ALTERNATIVES = 3


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
class Shape:
    """The size and length of a video."""

    width: int
    height: int
    num_frames: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} with {self.num_frames} frames"


@dataclass(frozen=True)
class Verdict:
    """Whether a request fits, and how.

    Attributes:
        fits: Whether it does.
        need: The bytes of weights on the device and of what the call holds beside them, without the margin.
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
        need, there = MARGIN * self.need / 2**30, self.available / 2**30
        instead = f"; what would fit: {', or '.join(map(str, self.instead))}" if self.instead else ""
        return f"{asked} needs {need:.1f} GiB of memory, and there are {there:.1f} GiB{instead}"


#: The peak that such a call had on this device, in bytes beside the weights; None: it was never measured.
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
    verdict = _cheapest(spec, precision, request, room, batch, learnt, loaded)
    if verdict.fits:
        return verdict
    instead = []
    for shape in _smaller(spec, request):
        other = replace(request, width=shape.width, height=shape.height, num_frames=shape.num_frames)
        if _cheapest(spec, precision, other, room, 1, learnt, loaded).fits:
            instead.append(shape)
    return replace(verdict, instead=tuple(_few(instead)))


def tier(total: int) -> str | None:
    """The preset of the tier that a GPU with so many bytes belongs to; None: it has less than the smallest."""
    names = [name for name, preset in PRESETS.items() if preset.gpu_gb and preset.gpu_gb * _SOLD_AS <= total]
    return max(names, key=lambda name: PRESETS[name].gpu_gb or 0) if names else None


def _cheapest(
    spec: ModelSpec,
    precision: Arithmetic,
    request: GenerationRequest,
    room: Room,
    batch: int,
    learnt: Learnt | None,
    loaded: Residency | None,
) -> Verdict:
    verdict = None
    for residency, knobs in _settings(room, loaded):
        known = learnt(request, batch, knobs) if learnt and residency == (loaded or Residency()) else None
        beside = footprint.beside(spec, precision, request, batch, knobs) if known is None else known
        need = footprint.resident(spec, precision, residency) + beside
        verdict = Verdict(
            MARGIN * need <= room.available, need, room.available, residency, knobs, _said(residency, knobs)
        )
        if verdict.fits:
            return verdict
    assert verdict is not None
    return verdict


def _settings(room: Room, loaded: Residency | None) -> Iterator[tuple[Residency, Knobs]]:
    """From the cheapest to the dearest. On a CPU the weights lie in main memory in any case."""
    residencies = [Residency()] if room.kind == "cpu" else [Residency(), Residency("model")]
    if loaded in residencies:
        residencies.remove(loaded)
        residencies.insert(0, loaded)
    for residency in residencies:
        for at_once in (4, 2, 1):
            yield residency, Knobs(at_once)


def _said(residency: Residency, knobs: Knobs) -> tuple[str, ...]:
    said = []
    if knobs.decode_at_once < Knobs().decode_at_once:
        said.append(f"decodes {knobs.decode_at_once} frame{'s' * (knobs.decode_at_once > 1)} at a time")
    if residency.offload == "model":
        said.append("keeps the parts of the model in main memory until they are needed: slower")
    return tuple(said)


def _smaller(spec: ModelSpec, request: GenerationRequest) -> Iterator[Shape]:
    """Smaller requests of the same picture shape: with fewer frames, then of smaller sizes, the larger ones first."""
    family = FAMILIES[spec.family]
    for share in (3 / 4, 1 / 2, 1 / 4):
        frames = family.nearest_frames(round(request.num_frames * share))
        if frames < request.num_frames:
            yield Shape(request.width, request.height, frames)
    picture = (request.width, request.height)
    for side in sorted({preset.side for preset in PRESETS.values()}, reverse=True):
        if side**2 < request.width * request.height:
            width, height = fit_area(side**2, picture, family)
            if width * height < request.width * request.height:
                yield Shape(width, height, request.num_frames)
    preview = PRESETS["preview"]
    yield Shape(*fit_area(preview.side**2, picture, family), family.nearest_frames(preview.num_frames))


def _few(shapes: Sequence[Shape]) -> list[Shape]:
    """The largest of each kind: with fewer frames, and of a smaller size."""
    kinds: dict[tuple[int, int] | int, Shape] = {}
    for shape in shapes:
        kinds.setdefault((shape.width, shape.height), shape)
    return list(kinds.values())[:_ALTERNATIVES]
