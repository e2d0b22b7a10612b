"""How many bytes each phase of a video takes, measured on the "meta" device, where tensors have shapes and no content.

The engine itself runs, with the real architecture of each model (`benchmarks.architectures`) and one denoising step,
and every tensor is counted from the operation that makes it until nothing holds it. Attention counts as the fused
kernels compute it, which keep no matrix of all positions by all positions. What is not seen: the scratch memory of
single kernels, and what an allocator cannot use again.

    python benchmarks/peaks.py            measures all models, and says how well the shipped table predicts them
    python benchmarks/peaks.py --quick    the same for each model in its own precision alone
    python benchmarks/peaks.py --write    makes runtime/peaks.json first
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import gc
import itertools
import json
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from benchmarks import harness
from benchmarks.architectures import build
from runtime import footprint
from runtime.families import FAMILIES
from runtime.footprint import Knobs, Line, Phase, Residency, Shape
from runtime.loading import DTYPES
from runtime.model_spec import Precision
from runtime.models import MODELS, model
from runtime.options import build_request
from runtime.pipeline import Engine

GIB = 2**30

_UNET = (Shape(320, 192, 8), Shape(512, 512, 16), Shape(768, 768, 24), Shape(1024, 1024, 32))
_TRANSFORMER = (
    Shape(288, 192, 25),
    Shape(608, 416, 49),
    Shape(512, 320, 121),
    Shape(640, 448, 105),
    Shape(832, 480, 65),
    Shape(1024, 1024, 33),
)
#: What the table is made from: from the fast preview to the preset of the largest tier.
SHAPES: Mapping[str, Sequence[Shape]] = {
    "i2vgen-xl": _UNET,
    "svd": _UNET,
    "animatediff": _UNET,
    "wan": _TRANSFORMER,
    "ltx": _TRANSFORMER,
    "cogvideox": (Shape(720, 480, 9), Shape(720, 480, 17), Shape(720, 480, 33), Shape(720, 480, 49)),
}
#: What it is tried on.
OTHERS: Mapping[str, Shape] = {
    "i2vgen-xl": Shape(640, 448, 20),
    "svd": Shape(1024, 576, 25),
    "animatediff": Shape(640, 448, 20),
    "wan": Shape(704, 512, 41),
    "ltx": Shape(704, 512, 97),
    "cogvideox": Shape(720, 480, 41),
}
#: Width and height of the tiles that a VAE can work in: of the picture, and of the frames. A family without has a UNet,
#: whose feed-forward layers can be chunked. Wan's counts them after it has folded two pixels of a picture into one.
_TILES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "wan": {"picture": (512, 512), "decode": (256, 256)},
    "ltx": {"picture": (512, 512), "decode": (512, 512)},
    "cogvideox": {"picture": (360, 240), "decode": (360, 240)},
}
#: The frames that those decode at a time. CogVideoX makes 9 of its first three latent ones, and holds as much as for 12
#: from then on; for Wan and LTX their number makes no difference.
_AT_ONCE: Mapping[str, int] = {"wan": 1, "ltx": 1, "cogvideox": 12}
#: Models that are alike in all that takes memory.
_ALIKE = {"svd-xt": "svd"}
#: A phase of the VAE that holds less than this share of what another one holds can decide nothing; nor can one of
#: another part that holds less than the second share of what the call holds at most.
_MATTERS = (0.5, 0.1)
_OF_THE_VAE = ("picture", "decode", "frames")
#: How far a prediction may lie below and above what is measured: tiles come in whole numbers, which no line follows.
_ERRORS = (-0.05, 0.10)
#: A line with one more coefficient has to be closer by as much: simple ones hold beyond what was measured, too.
_NO_BETTER = 0.01
#: The layers that diffusers widens, or brings over, one by one.
_LEAVES = (
    torch.nn.Conv1d,
    torch.nn.Conv2d,
    torch.nn.Conv3d,
    torch.nn.ConvTranspose1d,
    torch.nn.ConvTranspose2d,
    torch.nn.ConvTranspose3d,
    torch.nn.Linear,
    torch.nn.Embedding,
)


def main() -> int:
    """Measures, prints, writes; 1 if the table does not predict what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each model in its own precision alone")
    parser.add_argument("--write", action="store_true", help="make runtime/peaks.json first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.write:
        write_table()
    rows = []
    for meter in meters(quick=arguments.quick):
        for row in compare(meter):
            verdict = "" if row.holds else "DOES NOT HOLD: "
            print(f"{row.value:+6.1f} %  of {row.peer:>12}  {verdict}{row.name}", flush=True)
            rows.append(row)
    if arguments.json:
        document = {"machine": harness.machine(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(not all(row.holds for row in rows))


def meters(*, quick: bool) -> Iterator[Meter]:
    """One for each model and precision that the table has; of models that are alike, the first."""
    for model_id, spec in MODELS.items():
        if model_id not in _ALIKE:
            yield Meter(model_id, spec.precision)
            if not quick:
                yield Meter(model_id, "fp32")


def compare(meter: Meter) -> Iterator[harness.Row]:
    """How far the shipped table lies from what is measured at a shape that it was not made from."""
    shipped = footprint.row(meter.model_id, meter.precision)
    assert shipped is not None
    shape = OTHERS[meter.family]
    for knobs in meter.settings:
        run = _Run(shape, knobs, meter.measure(shape, knobs))
        for name, size in run.held.items():
            if not run.matters(name):
                continue
            error = shipped.phases[name].bytes(shape, knobs) / size - 1
            yield harness.Row(
                name=f"{meter.model_id} in {meter.precision}, {name}, {shape}, {knobs}",
                value=100 * error,
                unit="%",
                bar=f"{100 * _ERRORS[0]:+.0f} to {100 * _ERRORS[1]:+.0f}",
                holds=_ERRORS[0] <= error <= _ERRORS[1],
                peer=f"{size / GIB:.3f} GiB",
            )


def write_table() -> None:
    """Measures all models and writes `runtime/peaks.json`."""
    rows: dict[str, dict[str, Any]] = {}
    for meter in meters(quick=False):
        rows.setdefault(meter.model_id, {})[meter.precision] = meter.row()
        print(f"{meter.model_id} in {meter.precision}: at most {meter.error:.1%} above what was measured", flush=True)
    for model_id, alike in _ALIKE.items():
        rows[model_id] = rows[alike]
    made_with = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    text = json.dumps({"made_with": made_with, "rows": {name: rows[name] for name in MODELS}}, indent=1)
    on_fewer_lines = re.sub(r"\[[^][]*\]", lambda found: " ".join(found[0].split()), text)
    footprint.TABLE.write_text(on_fewer_lines + "\n", encoding="utf-8")
    footprint.forget()


@dataclass(frozen=True)
class _Run:
    """What one call held in each phase."""

    shape: Shape
    knobs: Knobs
    held: Mapping[str, int]

    def matters(self, phase: str) -> bool:
        """Whether the phase can be the one that decides."""
        if phase in _OF_THE_VAE:
            return self.held[phase] >= _MATTERS[0] * max(self.held[name] for name in _OF_THE_VAE)
        return self.held[phase] >= _MATTERS[1] * max(self.held.values())


class Meter:
    """One model in one precision on the meta device, ready to be run.

    Attributes:
        model_id: Its row in `runtime.models`.
        precision: What it is computed in.
        family: Its family.
        settings: The knobs that its lines are measured with: none turned, and all that spare this family something.
        error: By which share the lines of `row` lie above what they were made from, at most.
    """

    def __init__(self, model_id: str, precision: Precision) -> None:
        self.model_id = model_id
        self.precision = precision
        self.error = 0.0
        spec = model(model_id)
        self.family = spec.family
        sparing = Knobs(tiling=True) if self.family in _TILES else Knobs(decode_at_once=1, forward_chunking=True)
        self.settings = (Knobs(), sparing)
        self._spec = spec
        self._pipeline = build(model_id, DTYPES[precision], "meta")
        self._pipeline.scheduler = _Still()
        # At the end of a call the frames go to numpy, which knows nothing of the meta device.
        self._pipeline.video_processor.pt_to_numpy = lambda _frames: np.empty((1, 1, 1, 3))
        self._engine = Engine(spec, self._pipeline, torch.device("meta"), precision, Residency())
        self._parts = {
            name: part for name, part in self._pipeline.components.items() if isinstance(part, torch.nn.Module)
        }
        self._denoiser = FAMILIES[self.family].denoiser
        self._order: list[tuple[str, str]] = []

    def measure(self, shape: Shape, knobs: Knobs) -> Mapping[str, int]:
        """The most bytes beside the weights in each phase of one call."""
        request = build_request(
            model=self._spec,
            size=f"{shape.width}x{shape.height}",
            num_frames=shape.num_frames,
            num_inference_steps=FAMILIES[self.family].least_steps,
            prompt="a boat on the water",
            seed=0,
        )
        live = _LiveBytes(self._parts.values())
        with self._telling(live), _uncollected(), _FusedAttention(), live:
            self._engine.generate(Image.new("RGB", (64, 64)), request, lambda *_: None, knobs)
        return live.peaks

    def row(self) -> dict[str, Any]:
        """What the table says of it."""
        runs = [
            _Run(shape, knobs, self.measure(shape, knobs)) for shape in SHAPES[self.family] for knobs in self.settings
        ]
        return {
            "parts": {name: _bytes(part) for name, part in self._parts.items()},
            "denoiser": self._denoiser,
            "groups": {
                name: _in_groups(part) if name == self._denoiser else _in_leaves(part)
                for name, part in self._parts.items()
                if name != "vae"
            },
            "phases": {name: self._phase(name, works, runs) for name, works in self._order},
            "narrow": self._narrow(),  # the last: it changes the denoiser
        }

    def _phase(self, name: str, works: str, runs: Sequence[_Run]) -> dict[str, Any]:
        tile = _TILES.get(self.family, {}).get(name)
        has_knob = works == "vae" if self.family in _TILES else name == "denoise"
        empty = Phase(works, (), Line(), None, tile, _AT_ONCE.get(self.family))
        plain = [run for run in runs if not has_knob or run.knobs == self.settings[0]]
        found = {"works": works, "beside": self._beside(name), "plain": self._line(name, empty, plain)}
        if has_knob:
            found["sparing"] = self._line(name, empty, [run for run in runs if run not in plain])
        return {**found, **({"tile": tile} if tile else {}), **({"frames": empty.frames} if empty.frames else {})}

    def _line(self, name: str, phase: Phase, runs: Sequence[_Run]) -> list[float]:
        measured = [(run.shape, phase.at_once(run.shape, run.knobs), run.held[name]) for run in runs]
        decisive = [of for run, of in zip(runs, measured, strict=True) if run.matters(name)]
        line = fit(decisive or measured)
        self.error = max(self.error, *(line.bytes(shape, at_once) / size - 1 for shape, at_once, size in decisive), 0)
        return [round(coefficient, 2) for coefficient in line]

    def _beside(self, phase: str) -> list[str]:
        """The parts on the GPU in a phase with model offload, as accelerate's hooks do it.

        A part comes when it works, and then the one before it in the pipeline's order goes. So a text encoder is still
        there while the picture is encoded, and the VAE that encoded it while the denoiser works.
        """
        order = [name for name in self._pipeline.model_cpu_offload_seq.split("->") if name in self._parts]
        there: set[str] = set()
        for name, works in self._order:
            place = order.index(works)
            there = there - {order[place - 1]} | {works} if place else there | {works}
            if name == phase:
                break
        return sorted(there)

    def _narrow(self) -> list[int] | None:
        """The bytes of the denoiser as `enable_layerwise_casting` stores it, of its groups, and of a widened layer."""
        if self.precision == "fp32":
            return None
        denoiser = self._parts[self._denoiser]
        widened = max(_bytes(layer) for layer in denoiser.modules() if isinstance(layer, _LEAVES))
        denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=DTYPES[self.precision])
        return [_bytes(denoiser), _in_groups(denoiser), widened]

    @contextmanager
    def _telling(self, live: _LiveBytes) -> Iterator[None]:
        """Tells `live` which phase it is, and keeps their order."""
        self._order = []

        def enter(phase: str, works: str) -> None:
            if (phase, works) not in self._order:
                self._order.append((phase, works))
            live.enter(phase)

        names = {"text_encoder": "text", "image_encoder": "image", self._denoiser: "denoise"}
        hooks = [
            part.register_forward_pre_hook(lambda *_, name=name: enter(names[name], name))
            for name, part in self._parts.items()
            if name != "vae"
        ]
        vae = self._parts["vae"]
        encode, decode = vae.encode, vae.decode

        def encoded(*args: Any, **kwargs: Any) -> Any:
            enter("picture", "vae")
            return encode(*args, **kwargs)

        def decoded(*args: Any, **kwargs: Any) -> Any:
            enter("decode", "vae")
            return decode(*args, **kwargs)

        def decodes_on(*_: Any) -> None:
            """It was not the last time: what came since then was still decoding."""
            live.rename("frames", "decode")
            enter("decode", "vae")

        hooks += [
            vae.decoder.register_forward_pre_hook(decodes_on),
            vae.decoder.register_forward_hook(lambda *_: enter("frames", "vae")),
        ]
        # Where tiles overlap, diffusers blends them line by line: thousands of operations that take next to nothing.
        blends = {name: _unblended for name in ("blend_h", "blend_v", "blend_t") if hasattr(vae, name)}
        replaced = {"encode": encoded, "decode": decoded, **blends}
        vars(vae).update(replaced)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for name in replaced:
                delattr(vae, name)


def fit(measured: Sequence[tuple[Shape, int, int]]) -> Line:
    """The line that lies on or above all that was measured, and as little above as can be.

    Args:
        measured: Shape, the pixels that the VAE works on at a time, and bytes.

    Returns:
        None of its coefficients is negative.
    """
    columns = np.array([(1, shape.pixels, shape.volume, at_once) for shape, at_once, _ in measured], dtype=float)
    relative = columns / np.array([size for *_, size in measured], dtype=float)[:, None]
    best, least = Line(), np.inf
    for count in range(1, 5):
        for chosen in itertools.combinations(range(4), count):
            found = np.zeros(4)
            found[list(chosen)] = np.linalg.lstsq(relative[:, chosen], np.ones(len(measured)), rcond=None)[0]
            if found.min() < 0 or (relative @ found).min() <= 0:
                continue
            found /= (relative @ found).min()
            error = (relative @ found).max() - 1
            if error < least - _NO_BETTER:
                best, least = Line(*found.tolist()), error
    return best


class _LiveBytes(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of all tensors on the meta device that something holds, beside the weights of the parts."""

    def __init__(self, parts: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self.peaks: dict[str, int] = {}
        self._phase = ""
        self._now = 0
        self._live: dict[int, int] = {}
        self._weights: dict[int, weakref.finalize[Any, Any]] = {}
        for part in parts:
            for tensor in (*part.parameters(), *part.buffers()):
                storage = tensor.untyped_storage()
                self._weights[storage._cdata] = weakref.finalize(
                    storage, self._lose_weights, storage._cdata, storage.nbytes()
                )

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for finalizer in self._weights.values():
            finalizer.detach()

    def enter(self, phase: str) -> None:
        """What comes now belongs to the phase; what came before the first one too."""
        self.rename("", phase)
        self._phase = phase
        self.peaks[phase] = max(self.peaks[phase], self._now)

    def rename(self, phase: str, other: str) -> None:
        """What was thought to belong to a phase belongs to another."""
        self.peaks[other] = max(self.peaks.get(other, 0), self.peaks.pop(phase, 0))

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:  # pipelines ask whether they are to be guided
            return True
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                self._count(tensor.untyped_storage())
        self.peaks[self._phase] = max(self.peaks.get(self._phase, 0), self._now)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if size and key not in self._live and key not in self._weights:
            self._live[key] = size
            self._now += size
            weakref.finalize(storage, self._let_go, key)

    def _let_go(self, key: int) -> None:
        self._now -= self._live.pop(key, 0)

    def _lose_weights(self, key: int, size: int) -> None:
        """Some pipelines widen the VAE for a while: other weights take the place of these."""
        del self._weights[key]
        self._now -= size


class _FusedAttention(TorchFunctionMode):  # type: ignore[misc]
    """Stands in for the fused kernels: their result, laid out as they leave it, and nothing between."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is not torch.nn.functional.scaled_dot_product_attention:
            return function(*args, **kwargs)
        query, _, value = (*args, *(kwargs[name] for name in ("query", "key", "value")[len(args) :]))[:3]
        *outer, heads, positions, _ = query.shape
        made = torch.empty(*outer, positions, heads, value.shape[-1], dtype=query.dtype, device=query.device)
        return made.transpose(-2, -3)


class _Still:
    """A scheduler whose steps need no numbers: real ones look up where they are in what the meta device lacks."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.timesteps = torch.ones(0)

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: Any = None
    ) -> None:
        _ = mu
        self.timesteps = torch.ones(num_inference_steps or len(sigmas), device=device)

    def scale_model_input(self, latents: torch.Tensor, _step: Any) -> torch.Tensor:
        return latents

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, _step: Any) -> torch.Tensor:
        return latents + noise

    def step(self, predicted: torch.Tensor, _step: Any, latents: torch.Tensor, return_dict: bool = True) -> Any:
        previous = (latents.float() + predicted.float()).to(latents.dtype)
        return SimpleNamespace(prev_sample=previous) if return_dict else (previous,)


def _unblended(_before: torch.Tensor, tile: torch.Tensor, _extent: int) -> torch.Tensor:
    return tile


@contextmanager
def _uncollected() -> Iterator[None]:
    """What only the garbage collector would free stays: as much as a real run may hold, and always the same."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _bytes(part: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*part.parameters(), *part.buffers()))


def _in_groups(part: torch.nn.Module) -> int:
    """What diffusers' group offloading by blocks, one to a group, has on the GPU at most.

    Blocks are the members of the lists among the part's children. One computes, the next comes; all else stays.
    """
    lists = [child for child in part.children() if isinstance(child, torch.nn.ModuleList | torch.nn.Sequential)]
    groups = [_bytes(block) for blocks in lists for block in blocks]
    return _bytes(part) - sum(groups) + max(map(sum, itertools.pairwise(groups)), default=0)


def _in_leaves(part: torch.nn.Module) -> int:
    """The same by layers: the two largest, if they should follow each other, and what belongs to no layer."""
    # By their weights: what two layers share counts once.
    leaves = {id(layer.weight): _bytes(layer) for layer in part.modules() if isinstance(layer, _LEAVES)}
    return sum(sorted(leaves.values())[-2:]) + _bytes(part) - sum(leaves.values())


if __name__ == "__main__":
    sys.exit(main())
